//! Generates the CRI messages of `proto/cri.proto`, by a parser that is Rust: no `protoc` is needed.

fn main() {
    let small = protobuf_codegen::Customize::default().lite_runtime(true).gen_mod_rs(true);
    protobuf_codegen::Codegen::new()
        .pure()
        .customize(small)
        .include("proto")
        .input("proto/cri.proto")
        .cargo_out_dir("cri")
        .run_from_script();
}
