//! Every double is accepted, however a program writes it.

use proptest::prelude::*;

use crate::bodies::*;

/// The ways in which programs write a double, each read back as the same double.
fn spellings(double: f64) -> Vec<String> {
    let shortest = format!("{double:e}");
    let (mantissa, exponent) = shortest.split_once('e').expect("an exponent");
    let exponent: i32 = exponent.parse().expect("an exponent is a number");
    let point = if mantissa.contains('.') { mantissa.to_owned() } else { format!("{mantissa}.0") };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let integer = format!("{whole}{fraction}");
    let shift = i32::try_from(fraction.len()).expect("a short fraction");
    let sign = if exponent < 0 { '-' } else { '+' };
    vec![
        // Rust and jq; JavaScript and PHP; Python and C; Java and Kotlin; a decimal library.
        shortest.clone(),
        format!("{mantissa}e{exponent:+}"),
        format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs()),
        format!("{point}E{exponent}"),
        format!("{integer}e{}", exponent - shift),
        // In full, as Rust's Display and PostgreSQL's jsonb write it.
        format!("{double}"),
        serde_json::to_string(&double).expect("a finite double"),
        // printf with %.16e, %.20e and all the digits that a number may have.
        format!("{double:.16e}"),
        format!("{double:.20e}"),
        format!("{double:.39e}"),
    ]
}

fn is_kept_in_every_spelling(double: f64) {
    let numbers = spellings(double);
    for number in &numbers {
        assert_eq!(number.parse::<f64>().map(f64::to_bits), Ok(double.to_bits()), "{number}");
    }
    let properties = format!(r#"{{"v":[{}]}}"#, numbers.join(","));
    let body = format!(r#"{{"name":"n","properties":{properties}}}"#);
    let batch = read_json(&body).unwrap_or_else(|error| panic!("{body}: {error:?}"));
    assert_eq!(texts(&only_row(&batch))[3].as_deref(), Some(properties.as_str()));
}

#[test]
fn the_doubles_at_every_limit_are_kept_in_every_spelling() {
    let smallest = f64::from_bits(1);
    let largest_denormal = f64::from_bits(f64::MIN_POSITIVE.to_bits() - 1);
    for double in [0.0, smallest, largest_denormal, f64::MIN_POSITIVE, f64::EPSILON, 1e-310, 1e23, f64::MAX] {
        is_kept_in_every_spelling(double);
        is_kept_in_every_spelling(-double);
    }
    for number in ["5e-324", "4.9E-324", "4.9406564584124654e-324", "1.7976931348623157e+308", "1e-310"] {
        let properties = format!(r#"{{"v":{number}}}"#);
        let batch = read_json(&format!(r#"{{"name":"n","properties":{properties}}}"#)).unwrap();
        assert_eq!(texts(&only_row(&batch))[3].as_deref(), Some(properties.as_str()));
    }
}

/// Doubles of every exponent, half of them denormal or close to a limit.
fn any_double() -> impl Strategy<Value = f64> {
    let of_bits = |bits: u64| f64::from_bits(bits);
    prop_oneof![
        2 => any::<u64>().prop_map(of_bits),
        1 => (0..1_u64 << 52).prop_map(of_bits),
        1 => (0_u32..64, any::<bool>()).prop_map(|(bit, minus)| {
            let double = f64::from_bits(1_u64 << bit.min(62));
            if minus { -double } else { double }
        }),
    ]
    .prop_filter("JSON has no NaN and no infinity", |double| double.is_finite())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_double_is_kept_in_every_spelling(double in any_double()) {
        is_kept_in_every_spelling(double);
    }
}
