//! The members of a JSON object that a program sends, each with the type that it must have. Pure.

use serde_json::{Map, Value};

/// Items of a list, or members of an object in it, at most.
const ITEMS_MAX: usize = 100;

/// Why a body is refused. A message never repeats a part of the body.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FieldError {
    #[error("the body is not a JSON object; send one with the Content-Type application/json")]
    NotAnObject,
    #[error("the body has a field that this path does not take; it takes {}", .takes.join(", "))]
    Unknown { takes: &'static [&'static str] },
    #[error("{field} is missing; it must be {expected}")]
    Missing { field: &'static str, expected: &'static str },
    #[error("{field} must be {expected}")]
    Invalid { field: &'static str, expected: String },
    #[error("the body changes nothing; send one of {}", .takes.join(", "))]
    Nothing { takes: &'static [&'static str] },
}

impl FieldError {
    /// The field to correct.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Missing { field, .. } | Self::Invalid { field, .. } => Some(field),
            Self::NotAnObject | Self::Unknown { .. } | Self::Nothing { .. } => None,
        }
    }
}

/// The members of an object that are not read yet.
pub(super) struct Fields {
    members: Map<String, Value>,
    takes: &'static [&'static str],
}

impl Fields {
    /// An empty body is an empty object.
    ///
    /// # Errors
    /// [`FieldError::NotAnObject`] and [`FieldError::Unknown`].
    pub(super) fn read(body: &[u8], takes: &'static [&'static str]) -> Result<Self, FieldError> {
        let members: Map<String, Value> = match body.trim_ascii() {
            b"" => Map::new(),
            body => serde_json::from_slice(body).map_err(|_| FieldError::NotAnObject)?,
        };
        if members.keys().all(|name| takes.contains(&name.as_str())) {
            Ok(Self { members, takes })
        } else {
            Err(FieldError::Unknown { takes })
        }
    }

    /// # Errors
    /// [`FieldError::Nothing`] for an object without a member.
    pub(super) fn check_not_empty(&self) -> Result<(), FieldError> {
        if self.members.is_empty() { Err(FieldError::Nothing { takes: self.takes }) } else { Ok(()) }
    }

    /// A text.
    pub(super) fn text(&mut self, field: &'static str) -> Result<Option<String>, FieldError> {
        match self.members.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(field, "a text")),
        }
    }

    pub(super) fn required_text(
        &mut self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<String, FieldError> {
        self.text(field)?.ok_or(FieldError::Missing { field, expected })
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<Option<bool>, FieldError> {
        match self.members.remove(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => Err(invalid(field, "true or false")),
        }
    }

    /// A whole number from 0 to `max`, or `null`, which is another answer than an absent field.
    pub(super) fn nullable_number(
        &mut self,
        field: &'static str,
        max: u64,
    ) -> Result<Option<Option<u64>>, FieldError> {
        match self.members.remove(field) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(value) => match whole(&value).filter(|number| *number <= max) {
                Some(number) => Ok(Some(Some(number))),
                None => Err(invalid(field, &format!("a whole number from 0 to {max}, or null"))),
            },
        }
    }

    /// A whole number from 0 to `max`.
    pub(super) fn number(&mut self, field: &'static str, max: u64) -> Result<Option<u64>, FieldError> {
        match self.nullable_number(field, max) {
            Ok(None) => Ok(None),
            Ok(Some(Some(number))) => Ok(Some(number)),
            Ok(Some(None)) | Err(_) => Err(invalid(field, &format!("a whole number from 0 to {max}"))),
        }
    }

    /// A number in plain notation: a whole one as a JSON number, and any as a text, which keeps all of its
    /// digits.
    pub(super) fn decimal(
        &mut self,
        field: &'static str,
        expected: &'static str,
    ) -> Result<Option<String>, FieldError> {
        match self.members.remove(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(value) => match whole(&value) {
                Some(number) => Ok(Some(number.to_string())),
                None => Err(invalid(field, expected)),
            },
        }
    }

    /// One of the names of an enum.
    pub(super) fn choice<T: std::str::FromStr>(
        &mut self,
        field: &'static str,
        names: &[&str],
    ) -> Result<Option<T>, FieldError> {
        let expected = || FieldError::Invalid { field, expected: format!("one of {}", names.join(", ")) };
        let Some(text) = self.text(field).map_err(|_| expected())? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| expected())
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, field: &'static str) -> Result<Vec<String>, FieldError> {
        let expected = || invalid(field, &format!("a list of at most {ITEMS_MAX} texts"));
        match self.members.remove(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) if items.len() <= ITEMS_MAX => items
                .into_iter()
                .map(|item| if let Value::String(text) = item { Ok(text) } else { Err(expected()) })
                .collect(),
            Some(_) => Err(expected()),
        }
    }

    /// An object whose values are texts.
    pub(super) fn pairs(&mut self, field: &'static str) -> Result<Vec<(String, String)>, FieldError> {
        let expected = || invalid(field, &format!("an object with at most {ITEMS_MAX} texts"));
        match self.members.remove(field) {
            None => Ok(Vec::new()),
            Some(Value::Object(members)) if members.len() <= ITEMS_MAX => members
                .into_iter()
                .map(
                    |(name, value)| {
                        if let Value::String(text) = value { Ok((name, text)) } else { Err(expected()) }
                    },
                )
                .collect(),
            Some(_) => Err(expected()),
        }
    }
}

/// A whole number, also as `7.0`: JSON does not tell them apart.
fn whole(number: &Value) -> Option<u64> {
    let of_float = || {
        let float = number.as_f64().filter(|float| float.fract() == 0.0 && (0.0..9e15).contains(float))?;
        Some(float as u64)
    };
    number.as_u64().or_else(of_float)
}

/// The field must be what is expected.
pub(super) fn invalid(field: &'static str, expected: &str) -> FieldError {
    FieldError::Invalid { field, expected: expected.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAKES: &[&str] = &["name", "on", "count", "list", "map"];

    fn read(body: &str) -> Fields {
        Fields::read(body.as_bytes(), TAKES).unwrap()
    }

    #[test]
    fn a_field_of_the_right_type_is_read_and_an_absent_one_is_none() {
        let mut all = read(r#"{"name":"a","on":true,"count":7,"list":["x"],"map":{"k":"v"}}"#);
        assert_eq!(all.text("name").unwrap().as_deref(), Some("a"));
        assert_eq!((all.flag("on").unwrap(), all.number("count", 7).unwrap()), (Some(true), Some(7)));
        assert_eq!(all.texts("list").unwrap(), ["x"]);
        assert_eq!(all.pairs("map").unwrap(), [("k".to_owned(), "v".to_owned())]);
        for nothing in ["", " \n", "{}"] {
            let mut none = read(nothing);
            assert_eq!((none.text("name").unwrap(), none.number("count", 1).unwrap()), (None, None));
            assert!(matches!(none.check_not_empty(), Err(FieldError::Nothing { .. })));
        }
        assert_eq!(read(r#"{"count":7.0}"#).number("count", 7).unwrap(), Some(7));
        for (body, digits) in [(r#"{"count":7}"#, "7"), (r#"{"count":"0.10"}"#, "0.10")] {
            assert_eq!(read(body).decimal("count", "a number").unwrap().as_deref(), Some(digits));
        }
        assert_eq!(read(r#"{"count":null}"#).nullable_number("count", 1).unwrap(), Some(None));
    }

    #[test]
    fn anything_else_is_refused_with_the_name_of_the_field() {
        for body in ["[]", "7", "{", "{}{}", r#""name""#, "\u{feff}x"] {
            assert_eq!(Fields::read(body.as_bytes(), TAKES).err(), Some(FieldError::NotAnObject), "{body}");
        }
        let unknown = Fields::read(br#"{"nmae":"a"}"#, TAKES).err().unwrap().to_string();
        assert!(unknown.contains("it takes name, on") && !unknown.contains("nmae"), "{unknown}");
        let wrong = || read(r#"{"name":7,"on":"yes","count":8.5,"list":[7],"map":{"k":[]}}"#);
        let fields = [
            wrong().text("name").unwrap_err(),
            wrong().flag("on").unwrap_err(),
            wrong().number("count", 9).unwrap_err(),
            wrong().texts("list").unwrap_err(),
            wrong().pairs("map").unwrap_err(),
        ];
        assert_eq!(
            fields.map(|error| error.field()),
            TAKES.iter().map(|name| Some(*name)).collect::<Vec<_>>()[..]
        );
        let missing = read("{}").required_text("name", "the name").unwrap_err();
        assert_eq!(
            (missing.field(), missing.to_string().as_str()),
            (Some("name"), "name is missing; it must be the name")
        );
        let nulls = || read(r#"{"name":null,"count":null,"list":null}"#);
        assert!(
            nulls().text("name").is_err()
                && nulls().number("count", 1).is_err()
                && nulls().texts("list").is_err()
        );
        assert!(read(r#"{"count":0.1}"#).decimal("count", "a number").is_err(), "a float has lost digits");
        assert!(read(r#"{"count":-1}"#).number("count", 9).is_err());
        assert!(read(r#"{"count":10}"#).number("count", 9).is_err());
    }
}
