//! The context of a call: that of the batch and its own, with every field that has no column under `segment`.
//!
//! The client's address is left out: it is not for the dialect to decide where it is stored.
//!
//! The call takes precedence, member by member. A member that both have is written once, so that every store
//! has the same.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::dialect::address::{ADDRESS, is_address};
use crate::dialect::call::{ObjectWriter, push_member};
use crate::dialect::definition::Member;
use crate::dialect::validator::{Validator, without_nul};
use crate::event::Rejection;
use crate::json::{Container, Unstorable, Value};
use crate::key::KEY_MEMBER;

/// The member of the context for fields that have no column. If the client's context has it, `$` is put in
/// front.
const REST: &str = "segment";
/// An object with more members than this is searched by a hash.
const SEARCHED_MAX: usize = 16;

/// The contexts of a call that are objects, and those that are not.
pub(super) struct Contexts<'a> {
    shared: Option<Container<'a>>,
    own: Option<Container<'a>>,
    /// Kept like a field without a column.
    odd: Option<Value<'a>>,
}

impl<'a> Contexts<'a> {
    /// `batch` are the fields of the call's batch.
    pub(super) fn of(own: Option<Value<'a>>, batch: &[Member<'a>]) -> Self {
        let shared = batch.iter().rev().find(|(name, _)| *name == "context").map(|(_, value)| *value);
        let object = |value: Option<Value<'a>>| match value {
            Some(Value::Object(object)) => Some(object),
            _ => None,
        };
        let odd = |value: &Value<'a>| match value {
            Value::Null | Value::Object(_) => false,
            Value::Array(array) => !array.is_empty(),
            _ => true,
        };
        Self { shared: object(shared), own: object(own), odd: own.filter(odd).or(shared.filter(odd)) }
    }

    /// The member of the context with this name.
    pub(super) fn member(&self, name: &str) -> Option<Value<'a>> {
        let member = |context: Option<Container<'a>>| context?.member(name);
        member(self.own).or_else(|| member(self.shared))
    }

    /// Writes the context with the fields of the call and of its batch that have no column.
    pub(super) fn write(
        &self,
        call: Container<'a>,
        batch: &[Member<'a>],
        has_place: impl Fn(&str, Value<'a>) -> bool,
        validator: Validator,
    ) -> Result<Cow<'a, [u8]>, Rejection> {
        let absent = absent_names(call.members());
        let own = || {
            let members = call.members().filter(|(name, value)| !has_place(name, *value));
            members.filter(|(name, value)| !matches!(value, Value::Null) && !absent.contains(name))
        };
        let mut rest = ObjectWriter::default();
        if !batch.is_empty() {
            let is_own = Names::of(|| own().map(|(name, _)| name), batch.len());
            let absent = absent_names(batch.iter().copied());
            let shared = batch.iter().copied().filter(|(name, value)| {
                !matches!(*name, "context" | KEY_MEMBER)
                    && !is_bookkeeping(name, *value)
                    && !matches!(value, Value::Null)
                    && !absent.contains(name)
                    && !is_own.contains(name)
            });
            add_members(&mut rest, shared, validator)?;
        }
        add_members(&mut rest, own(), validator)?;
        add_members(&mut rest, self.odd.iter().map(|odd| ("context", *odd)), validator)?;
        let mut context = self.merged(validator)?;
        if let Some(rest) = rest.finish() {
            let mut name = REST.to_owned();
            while self.member(&name).is_some() {
                name.insert(0, '$');
            }
            push_member(&mut context, &name, &rest);
        }
        if context.is_empty() {
            context.push(b'{');
        }
        context.push(b'}');
        Ok(Cow::Owned(context))
    }

    /// Both contexts as one object without its closing bracket; nothing if both are empty.
    fn merged(&self, validator: Validator) -> Result<Vec<u8>, Rejection> {
        let storable = |object: Container<'a>, is_left_out: &dyn Fn(&str) -> bool| {
            let is_left_out = |name: &str, value| name == ADDRESS && is_address(value) || is_left_out(name);
            let bytes = object.storable_without(is_left_out);
            bytes.map_err(|what| validator.unstorable(Some("context"), what))
        };
        let own = self.own.filter(|own| !own.is_empty());
        let mut context = Vec::new();
        if let Some(shared) = self.shared.filter(|shared| !shared.is_empty()) {
            let bytes = match own {
                Some(own) => {
                    let is_own = Names::of(|| own.members().map(|(name, _)| name), shared.len());
                    storable(shared, &|name| is_own.contains(name))?
                }
                None => storable(shared, &|_| false)?,
            };
            if *bytes != *b"{}" {
                context.extend_from_slice(&bytes[..bytes.len() - 1]);
            }
        }
        if let Some(own) = own {
            let bytes = storable(own, &|_| false)?;
            if *bytes != *b"{}" {
                context.push(if context.is_empty() { b'{' } else { b',' });
                context.extend_from_slice(&bytes[1..bytes.len() - 1]);
            }
        }
        Ok(context)
    }
}

/// What an SDK notes for its own transport, and the integrations of a call that chooses none.
pub(super) fn is_bookkeeping(name: &str, value: Value<'_>) -> bool {
    match (name, value) {
        ("sentAt" | "_metadata", _) => true,
        ("integrations", Value::Object(chosen)) => {
            chosen.members().all(|(name, value)| name == "All" && matches!(value, Value::Bool(b"true")))
        }
        _ => false,
    }
}

/// The names whose last value is null. Of equal names the last counts, and null counts as absent.
fn absent_names<'a>(members: impl Iterator<Item = Member<'a>>) -> HashSet<&'a str> {
    let mut absent = HashSet::new();
    for (name, value) in members {
        if matches!(value, Value::Null) {
            absent.insert(name);
        } else if !absent.is_empty() {
            absent.remove(name);
        }
    }
    absent
}

/// The names of some members, for several searches.
enum Names<'a, F> {
    Few(F),
    Many(HashSet<&'a str>),
}

impl<'a, I: Iterator<Item = &'a str>, F: Fn() -> I> Names<'a, F> {
    fn of(names: F, searches: usize) -> Self {
        if searches <= SEARCHED_MAX { Self::Few(names) } else { Self::Many(names().collect()) }
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Self::Few(names) => names().any(|found| found == name),
            Self::Many(names) => names.contains(name),
        }
    }
}

fn add_members<'a>(
    object: &mut ObjectWriter<'a>,
    members: impl Iterator<Item = (&'a str, Value<'a>)>,
    validator: Validator,
) -> Result<(), Rejection> {
    for (name, value) in members {
        let value = value.storable().map_err(|what| validator.unstorable(Some(name), what))?;
        object.add(without_nul(name), &value);
    }
    Ok(())
}

/// An object with one member.
pub(super) fn one_member<'a>(name: &str, value: Value<'_>) -> Result<Cow<'a, [u8]>, Unstorable> {
    let mut object = Vec::new();
    push_member(&mut object, name, &value.storable()?);
    object.push(b'}');
    Ok(Cow::Owned(object))
}
