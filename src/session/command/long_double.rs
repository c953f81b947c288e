//! The numbers that `INCRBYFLOAT` adds: Redis does so in C's `long double`, which has 64 bits of mantissa on
//! the processors that most run it on, and prints 17 places of it. Whoever reads such a number back expects
//! the same digits.

/// `mantissa × 2^exponent`, rounded to the nearest of those that there are, to the even one of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parsed {
    /// A number.
    Finite(LongDouble),
    /// An infinity: whether it is the negative one.
    Infinite(bool),
}

/// A natural number of any size, its lowest 32 bits first, without zeros at the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Natural(Vec<u32>);

/// Longer texts are no numbers, to Redis either.
const LONGEST: usize = 5 * 1024;
/// The exponent of the largest and the smallest number, of a mantissa that is a whole number.
const EXPONENTS: std::ops::RangeInclusive<i64> = -16_445..=16_320;
/// Decimal places that are printed.
const PLACES: u32 = 17;
/// Beyond this many digits before or behind the point a number is none that there is.
const FAR: i64 = 10_100;

// === impl LongDouble ===

impl LongDouble {
    const ZERO: Self = Self { negative: false, mantissa: 0, exponent: 0 };

    /// Reads a text as `strtold` does; `None` when it is no number, or none that there is.
    pub(super) fn parse(text: &[u8]) -> Option<Parsed> {
        if text.len() >= LONGEST {
            return None;
        }
        let (negative, digits) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] | rest => (false, rest),
        };
        if digits.eq_ignore_ascii_case(b"inf") || digits.eq_ignore_ascii_case(b"infinity") {
            return Some(Parsed::Infinite(negative));
        }
        let number = match digits {
            [b'0', b'x' | b'X', rest @ ..] => parse_hexadecimal(rest)?,
            rest => parse_decimal(rest)?,
        };
        Some(Parsed::Finite(Self { negative, ..number }))
    }

    /// The sum; `None` when it is beyond all numbers.
    pub(super) fn add(self, other: Self) -> Option<Self> {
        let lowest = self.exponent.min(other.exponent);
        let aligned = |number: Self| {
            let shift = usize::try_from(number.exponent - lowest).unwrap_or_default();
            Natural::from(number.mantissa).shifted(shift)
        };
        let (a, b) = (aligned(self), aligned(other));
        let (negative, sum) = if self.negative == other.negative {
            (self.negative, a.plus(&b))
        } else if a.is_less_than(&b) {
            (other.negative, b.minus(&a))
        } else {
            (self.negative, a.minus(&b))
        };
        if sum.is_zero() {
            return Some(Self::ZERO);
        }
        Some(Self { negative, ..round(&sum, lowest.into(), false)? })
    }

    /// As Redis prints it: 17 places, without zeros at the end.
    pub(super) fn show(self) -> String {
        let (whole, places) = self.scaled();
        let sign = if self.negative { "-" } else { "" };
        let text = format!("{sign}{whole}.{places:017}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        if text == "-0" { "0".to_owned() } else { text.to_owned() }
    }

    /// What is before the point, and the 17 places behind it.
    fn scaled(self) -> (String, u128) {
        let one = 10_u128.pow(PLACES);
        let Some(shift) = self.exponent.checked_neg().filter(|shift| *shift > 0) else {
            let shift = usize::try_from(self.exponent).unwrap_or_default();
            return (Natural::from(self.mantissa).shifted(shift).show(), 0);
        };
        let scaled = u128::from(self.mantissa) * one;
        let rounded = match u32::try_from(shift).ok().filter(|shift| *shift < 128) {
            None => 0,
            Some(shift) => {
                let (quotient, rest) = (scaled >> shift, scaled & ((1 << shift) - 1));
                let half = 1_u128 << (shift - 1);
                quotient + u128::from(rest > half || rest == half && quotient % 2 == 1)
            }
        };
        ((rounded / one).to_string(), rounded % one)
    }
}

fn parse_decimal(text: &[u8]) -> Option<LongDouble> {
    let (mantissa, exponent) = split_exponent(text, [b'e', b'E'])?;
    let (digits, behind) = split_point(mantissa, u8::is_ascii_digit)?;
    let mut number = Natural::default();
    for digits in digits.chunks(9) {
        let value = digits.iter().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'));
        number.multiply_and_add(10_u32.pow(digits.len() as u32), value);
    }
    if number.is_zero() {
        return Some(LongDouble::ZERO);
    }
    let exponent = exponent - behind;
    if !(-FAR..=FAR).contains(&exponent) {
        return None;
    }
    let mut power = Natural::from(1);
    let mut left = exponent.unsigned_abs() as u32;
    while left > 0 {
        power.multiply_and_add(10_u32.pow(left.min(9)), 0);
        left -= left.min(9);
    }
    if exponent >= 0 {
        return round(&number.times(&power), 0, false);
    }
    // As many more bits as make the quotient longer than a mantissa by two.
    let shift = (power.bits() + 67).saturating_sub(number.bits());
    let (quotient, exact) = number.shifted(shift).divided_by(&power);
    round(&quotient, -i64::try_from(shift).ok()?, !exact)
}

fn parse_hexadecimal(text: &[u8]) -> Option<LongDouble> {
    let (mantissa, exponent) = split_exponent(text, [b'p', b'P'])?;
    let (digits, behind) = split_point(mantissa, u8::is_ascii_hexdigit)?;
    let mut number = Natural::default();
    for digit in digits {
        number.multiply_and_add(16, char::from(digit).to_digit(16).unwrap_or_default());
    }
    if number.is_zero() {
        return Some(LongDouble::ZERO);
    }
    round(&number, exponent - 4 * behind, false)
}

/// The mantissa and the exponent, 0 if there is none.
fn split_exponent(text: &[u8], letters: [u8; 2]) -> Option<(&[u8], i64)> {
    let Some(at) = text.iter().position(|byte| letters.contains(byte)) else {
        return Some((text, 0));
    };
    let digits = &text[at + 1..];
    let unsigned = digits.strip_prefix(b"-").or(digits.strip_prefix(b"+")).unwrap_or(digits);
    if unsigned.is_empty() || !unsigned.iter().all(u8::is_ascii_digit) {
        return None;
    }
    // One that is too long for a number is as far as any.
    let size = std::str::from_utf8(unsigned).ok()?.parse().unwrap_or(i64::from(i32::MAX));
    let size = size.min(i64::from(i32::MAX));
    Some((&text[..at], if digits.starts_with(b"-") { -size } else { size }))
}

/// All digits, and how many of them are behind the point.
fn split_point(text: &[u8], is_digit: fn(&u8) -> bool) -> Option<(Vec<u8>, i64)> {
    let point = text.iter().position(|byte| *byte == b'.');
    let behind = point.map_or(0, |at| text.len() - at - 1);
    let mut digits = text.to_vec();
    if let Some(at) = point {
        digits.remove(at);
    }
    let are_digits = !digits.is_empty() && digits.iter().all(is_digit);
    are_digits.then_some((digits, i64::try_from(behind).ok()?))
}

/// The number nearest to `natural × 2^exponent`, or to a little more if it is not `exact`. `None` when there
/// is none.
fn round(natural: &Natural, exponent: i64, inexact: bool) -> Option<LongDouble> {
    let bits = i64::try_from(natural.bits()).ok()?;
    // Very small numbers have fewer bits.
    let excess = (bits - 64).max(EXPONENTS.start() - exponent).max(0);
    let (mut mantissa, half, rest) = natural.split(usize::try_from(excess).ok()?);
    let rest = rest || inexact;
    let mut exponent = exponent + excess;
    if half && (rest || mantissa % 2 == 1) {
        let more = mantissa.checked_add(1);
        exponent += i64::from(more.is_none());
        mantissa = more.unwrap_or(1 << 63);
    }
    // What is left of a number that is too small is none; and one with few bits may be shifted.
    let reach = exponent - i64::from(mantissa.leading_zeros());
    (mantissa != 0 && reach <= *EXPONENTS.end()).then_some(LongDouble {
        negative: false,
        mantissa,
        exponent: i32::try_from(exponent).ok()?,
    })
}

// === impl Natural ===

impl From<u64> for Natural {
    fn from(number: u64) -> Self {
        Self(vec![number as u32, (number >> 32) as u32]).trimmed()
    }
}

impl Natural {
    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    fn is_zero(&self) -> bool {
        self.0.is_empty()
    }

    /// Bits without the zeros before the first one.
    fn bits(&self) -> usize {
        self.0.last().map_or(0, |last| self.0.len() * 32 - last.leading_zeros() as usize)
    }

    fn bit(&self, at: usize) -> bool {
        self.0.get(at / 32).is_some_and(|word| word >> (at % 32) & 1 == 1)
    }

    fn multiply_and_add(&mut self, factor: u32, add: u32) {
        let mut carry = u64::from(add);
        for word in &mut self.0 {
            carry += u64::from(*word) * u64::from(factor);
            *word = carry as u32;
            carry >>= 32;
        }
        if carry > 0 {
            self.0.push(carry as u32);
        }
    }

    fn times(&self, other: &Self) -> Self {
        let mut words = vec![0_u32; self.0.len() + other.0.len()];
        for (at, word) in self.0.iter().enumerate() {
            let mut carry = 0;
            for (place, factor) in words[at..].iter_mut().zip(other.0.iter().chain([&0])) {
                carry += u64::from(*place) + u64::from(*word) * u64::from(*factor);
                *place = carry as u32;
                carry >>= 32;
            }
        }
        Self(words).trimmed()
    }

    fn shifted(&self, bits: usize) -> Self {
        let mut words = vec![0; bits / 32];
        let mut carry = 0;
        for word in &self.0 {
            carry |= u64::from(*word) << (bits % 32);
            words.push(carry as u32);
            carry >>= 32;
        }
        words.push(carry as u32);
        Self(words).trimmed()
    }

    fn shifted_down(&self, bits: usize) -> Self {
        let words = self.0.get(bits / 32..).unwrap_or_default();
        let next = words.iter().skip(1).chain([&0]);
        let pairs =
            words.iter().zip(next).map(|(low, high)| u64::from(*high) << 32 | u64::from(*low));
        Self(pairs.map(|pair| (pair >> (bits % 32)) as u32).collect()).trimmed()
    }

    fn plus(&self, other: &Self) -> Self {
        let length = self.0.len().max(other.0.len()) + 1;
        let word = |of: &Self, at: usize| u64::from(of.0.get(at).copied().unwrap_or_default());
        let mut carry = 0;
        let words = (0..length).map(|at| {
            carry += word(self, at) + word(other, at);
            let sum = carry as u32;
            carry >>= 32;
            sum
        });
        Self(words.collect()).trimmed()
    }

    /// The difference to one that is not larger.
    fn minus(&self, other: &Self) -> Self {
        let mut borrow = 0;
        let words = self.0.iter().enumerate().map(|(at, word)| {
            let less = u64::from(other.0.get(at).copied().unwrap_or_default()) + borrow;
            borrow = u64::from(u64::from(*word) < less);
            u64::from(*word).wrapping_sub(less) as u32
        });
        Self(words.collect()).trimmed()
    }

    fn is_less_than(&self, other: &Self) -> bool {
        let by_words = || self.0.iter().rev().lt(other.0.iter().rev());
        self.0.len() < other.0.len() || self.0.len() == other.0.len() && by_words()
    }

    /// The quotient, and whether nothing is left.
    fn divided_by(&self, other: &Self) -> (Self, bool) {
        // What the highest bits leave of it is clear: they are fewer than those of the other.
        let unclear = (self.bits() + 1).saturating_sub(other.bits()).min(self.bits());
        let (mut quotient, mut rest) = (vec![0; self.0.len()], self.shifted_down(unclear));
        for at in (0..unclear).rev() {
            rest = rest.shifted(1);
            if self.bit(at) {
                rest = rest.plus(&Self::from(1));
            }
            if !rest.is_less_than(other) {
                rest = rest.minus(other);
                quotient[at / 32] |= 1 << (at % 32);
            }
        }
        (Self(quotient).trimmed(), rest.is_zero())
    }

    /// Without its lowest bits: what is left, the highest of those, and whether there was any other one.
    fn split(&self, bits: usize) -> (u64, bool, bool) {
        let high = (0..64).filter(|at| self.bit(bits + at)).fold(0, |high, at| high | 1 << at);
        let half = bits > 0 && self.bit(bits - 1);
        (high, half, (0..bits.saturating_sub(1)).any(|at| self.bit(at)))
    }

    fn show(&self) -> String {
        const STEP: u64 = 1_000_000_000;
        let (mut words, mut parts) = (self.0.clone(), Vec::new());
        while !words.is_empty() {
            let mut rest = 0;
            for word in words.iter_mut().rev() {
                rest = rest << 32 | u64::from(*word);
                *word = (rest / STEP) as u32;
                rest %= STEP;
            }
            parts.push(rest);
            words = Self(words).trimmed().0;
        }
        let first = parts.pop().unwrap_or_default().to_string();
        parts.iter().rev().fold(first, |text, part| format!("{text}{part:09}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> LongDouble {
        match LongDouble::parse(text.as_bytes()) {
            Some(Parsed::Finite(number)) => number,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// As C prints these sums of `long double`s.
    #[test]
    fn sums_have_the_digits_that_redis_gives_them() {
        for (a, b, sum) in [
            ("10.5", "0.1", "10.6"),
            ("0.1", "0.2", "0.3"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "-3", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("1e20", "1", "100000000000000000000"),
            ("1e19", "1", "10000000000000000001"),
            ("0.2", "1e17", "100000000000000000.203125"),
            ("0.2", "100000000.1", "100000000.29999999999563443"),
            ("2.34", "5.0e3", "5002.33999999999999986"),
            ("0.3333333333333333333", "0.3333333333333333333", "0.66666666666666667"),
            ("10.50000000000000000000", "0.00000000000000001", "10.50000000000000001"),
            ("7.7", "0x1p3", "15.7"),
            ("1e16", "3.14159265358979323846", "10000000000000003.1416015625"),
            ("-0", "-0.0", "0"),
            ("1e-4000", "0", "0"),
        ] {
            assert_eq!(number(a).add(number(b)).map(LongDouble::show).as_deref(), Some(sum), "{a}");
        }
        let large = number("1e300").show();
        assert!(large.starts_with("100000000000000000000899732407955919387") && large.len() == 301);
    }

    #[test]
    fn what_is_no_number_is_told() {
        for text in [
            "",
            "-",
            "+",
            "e1",
            "1e",
            "1e+",
            "1.2.3",
            "--1",
            " 1",
            "1 ",
            "nan",
            "0x",
            "0x1p",
            ".",
            "1e5000",
            "1e-5000",
            "1e99999999999999999999",
        ] {
            assert_eq!(LongDouble::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(LongDouble::parse(b"-INF"), Some(Parsed::Infinite(true)));
        assert_eq!(number("0e99999999999999999999"), LongDouble::ZERO);
        assert_eq!(LongDouble::parse(&[b'1'; LONGEST]), None);
        assert_eq!(number("1.1e4932").add(number("1.1e4932")), None, "beyond all numbers");
    }
}
