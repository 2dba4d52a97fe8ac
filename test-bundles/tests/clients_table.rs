//! The README's table of clients, held against what `test-bundles/scripts/clients` has just seen and named by `CLIENTS_TABLE`.

use test_bundles::readme::Part;

const PART: Part = Part { name: "clients", written_by: "CLIENTS=write make test-clients" };

/// Rewrites it when `CLIENTS=write`, else compares it.
#[test]
fn the_readme_says_what_works() {
    let Some(rows) = std::env::var_os("CLIENTS_TABLE") else {
        println!("skipped: make test-clients makes the table");
        return;
    };
    let expected = std::fs::read_to_string(rows).unwrap();
    if std::env::var_os("CLIENTS").is_some_and(|value| value == "write") {
        PART.write(&expected).unwrap();
    } else {
        assert_eq!(PART.read().unwrap(), expected, "CLIENTS=write make test-clients writes the table");
    }
}
