//! What one event adds to one meter.

use serde_json::Value;
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::decimal::Decimal;
use super::definition::{Aggregation, MeterDefinition};
use super::path::{Found, Path};
use crate::row::Row;

/// Bytes of a group value and of a value that is counted once, at most.
pub const TEXT_BYTES_MAX: usize = 200;
/// Bytes of the groups of one event as JSON, at most: an index of the database holds them.
pub const GROUPS_BYTES_MAX: usize = 1_500;

/// What an event adds to a meter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Measure {
    /// The values of the groups, a JSON array of strings and nulls.
    pub groups: String,
    pub value: MeasuredValue,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MeasuredValue {
    /// For a count.
    None,
    Number(Decimal),
    /// For a count of different values.
    Text(String),
}

/// Why an event with the name of a meter's events is not counted by it.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, EnumString, IntoStaticStr, VariantArray,
)]
#[strum(serialize_all = "snake_case")]
pub enum MeterFault {
    /// There is nothing, or `null`, at the path of the value.
    ValueMissing,
    /// The value is neither a number nor a text that is one in plain notation.
    ValueNotANumber,
    /// The value has more than 18 digits before or after the decimal point.
    ValueTooLong,
    /// A value that is counted once is an object, an array, or longer than 200 bytes.
    ValueNotCountable,
    /// The value of a group is an object, an array, or longer than 200 bytes; or all of them together are
    /// longer than 1,500 bytes as JSON.
    GroupNotUsable,
}

impl MeterDefinition {
    /// What this event, whose name is that of the meter's events, adds to the meter.
    ///
    /// # Errors
    /// Why the event is not counted. Nothing is guessed.
    pub fn measure(&self, event: &Row<'_>) -> Result<Measure, MeterFault> {
        let value = match &self.value {
            None => MeasuredValue::None,
            Some(path) if self.aggregation == Aggregation::UniqueCount => {
                let found = text_of(path, event).map_err(|()| MeterFault::ValueNotCountable)?;
                MeasuredValue::Text(found.ok_or(MeterFault::ValueMissing)?)
            }
            Some(path) => MeasuredValue::Number(number_of(path, event)?),
        };
        Ok(Measure { groups: self.groups_of(event)?, value })
    }

    fn groups_of(&self, event: &Row<'_>) -> Result<String, MeterFault> {
        let mut groups = String::from("[");
        for (index, group) in self.groups.iter().enumerate() {
            if index > 0 {
                groups.push(',');
            }
            match text_of(&group.path, event).map_err(|()| MeterFault::GroupNotUsable)? {
                None => groups.push_str("null"),
                Some(text) => groups.push_str(&Value::from(text).to_string()),
            }
        }
        groups.push(']');
        if groups.len() > GROUPS_BYTES_MAX { Err(MeterFault::GroupNotUsable) } else { Ok(groups) }
    }
}

fn number_of(path: &Path, event: &Row<'_>) -> Result<Decimal, MeterFault> {
    match path.find(event) {
        Found::Nothing => Err(MeterFault::ValueMissing),
        Found::Number(token) => Decimal::of_number(token).ok_or(MeterFault::ValueTooLong),
        Found::Text(text) => Decimal::of_text(&text).ok_or(MeterFault::ValueNotANumber),
        Found::Boolean(_) | Found::Container => Err(MeterFault::ValueNotANumber),
    }
}

/// A value as a text: a number in plain notation, so that `1.50` and `1.5` are the same. `None` if there is
/// none. An error for a value that has no usable text.
fn text_of(path: &Path, event: &Row<'_>) -> Result<Option<String>, ()> {
    let text = match path.find(event) {
        Found::Nothing => return Ok(None),
        Found::Number(token) => Decimal::of_number(token).ok_or(())?.to_string(),
        Found::Text(text) if text.len() <= TEXT_BYTES_MAX => text.into_owned(),
        Found::Boolean(boolean) => boolean.to_string(),
        Found::Text(_) | Found::Container => return Err(()),
    };
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::meter::Group;
    use crate::plan::ProjectId;

    fn measure(aggregation: Aggregation, properties: &str) -> Result<(String, String), MeterFault> {
        let definition = MeterDefinition {
            slug: "m".to_owned(),
            event: "call".to_owned(),
            aggregation,
            value: (aggregation != Aggregation::Count).then(|| "$.v".parse().unwrap()),
            groups: vec![Group { name: "g".to_owned(), path: "$.g".parse().unwrap() }],
        };
        let row = Row::bare(ProjectId(1), Uuid::nil(), "call");
        let Measure { groups, value } =
            definition.measure(&Row { properties: Some(properties.as_bytes()), ..row })?;
        let value = match value {
            MeasuredValue::None => String::new(),
            MeasuredValue::Number(number) => number.to_string(),
            MeasuredValue::Text(text) => format!("{text:?}"),
        };
        Ok((groups, value))
    }

    #[test]
    fn a_value_is_a_number_or_a_text_that_is_one() {
        for (value, number) in [("12.50", "12.5"), (r#""12.50""#, "12.5"), ("1e3", "1000"), ("-0", "0")] {
            let measured = measure(Aggregation::Sum, &format!(r#"{{"v":{value}}}"#));
            assert_eq!(measured, Ok(("[null]".to_owned(), number.to_owned())), "{value}");
        }
    }

    #[test]
    fn a_value_that_is_missing_or_no_number_is_not_guessed() {
        for (properties, fault) in [
            ("{}", MeterFault::ValueMissing),
            (r#"{"v":null}"#, MeterFault::ValueMissing),
            (r#"{"v":"many"}"#, MeterFault::ValueNotANumber),
            (r#"{"v":"1e3"}"#, MeterFault::ValueNotANumber),
            (r#"{"v":true}"#, MeterFault::ValueNotANumber),
            (r#"{"v":[1]}"#, MeterFault::ValueNotANumber),
            (r#"{"v":1e40}"#, MeterFault::ValueTooLong),
            (r#"{"v":1,"g":{"a":1}}"#, MeterFault::GroupNotUsable),
        ] {
            assert_eq!(measure(Aggregation::Sum, properties), Err(fault), "{properties}");
        }
        let long = format!(r#"{{"v":"{}"}}"#, "x".repeat(TEXT_BYTES_MAX + 1));
        assert_eq!(measure(Aggregation::UniqueCount, &long), Err(MeterFault::ValueNotCountable));
    }

    #[test]
    fn a_group_has_one_text_however_its_value_is_written() {
        for (group, text) in [
            (r#""gpt \"4\"""#, r#"["gpt \"4\""]"#),
            ("1.50", r#"["1.5"]"#),
            ("15e-1", r#"["1.5"]"#),
            ("true", r#"["true"]"#),
            ("null", "[null]"),
        ] {
            let measured = measure(Aggregation::Count, &format!(r#"{{"g":{group}}}"#));
            assert_eq!(measured, Ok((text.to_owned(), String::new())), "{group}");
        }
    }
}
