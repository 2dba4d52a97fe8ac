//! Every name that a type of `oci-spec` takes: the members of its closed sets, the fields of its objects.
//!
//! A derived `Deserialize` hands its names to the deserializer, and expects the text in return. This one keeps the names
//! and has no text.

use serde::de::value::Error;
use serde::de::{Deserializer, Error as _, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

/// The strings that stand for a `T`, an enum.
pub(super) fn variants<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    kept::<T>()
}

/// The fields of a `T`, a struct.
pub(super) fn fields<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    kept::<T>()
}

fn kept<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It never succeeds: nothing was there to read.
    let _ = T::deserialize(Keep(&mut names));
    names
}

struct Keep<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Keep<'_> {
    type Error = Error;

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = variants;
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(Error::custom("there is no text"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime as oci;

    use super::{fields, variants};

    #[test]
    fn the_names_are_those_of_the_specification() {
        assert_eq!(variants::<oci::LinuxNamespaceType>().len(), 8);
        assert_eq!(fields::<oci::Hooks>().len(), 6);
        assert!(variants::<oci::Arch>().contains(&"SCMP_ARCH_X86_64"));
    }
}
