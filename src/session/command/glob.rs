//! The patterns of `KEYS` and `MATCH`: `*`, `?`, `[a-z]`, `[^a-z]`, `\x`.

use super::super::store::{Task, Work};
use super::CommandError;

/// The longest pattern.
const LONGEST: usize = 4096;
/// Compares names with patterns for one request. Usual ones take a step for each byte.
#[derive(Debug)]
pub(super) struct Matching<'a> {
    work: &'a Work,
    /// What the comparison at hand may still take.
    left: u64,
}

/// No steps are left.
#[derive(Debug)]
struct Spent;

// === impl Matching ===

impl<'a> Matching<'a> {
    /// Within what the request may take.
    pub(super) fn new(work: &'a Work) -> Self {
        Self { work, left: 0 }
    }

    /// A pattern that is not too long.
    pub(super) fn pattern(pattern: &[u8]) -> Result<&[u8], CommandError> {
        if pattern.len() > LONGEST {
            return Err(CommandError::Other(format!(
                "ERR the pattern is too long: it may have {LONGEST} bytes"
            )));
        }
        Ok(pattern)
    }

    /// Whether `text` matches `pattern`.
    pub(super) fn matches(&mut self, pattern: &[u8], text: &[u8]) -> Result<bool, CommandError> {
        let before = self.work.left();
        self.left = before;
        let result = self.compare(Self::pattern(pattern)?, text);
        let steps = before - self.left + u64::from(result.is_err());
        self.work.spend(Task::Compare, steps as usize)?;
        Ok(result.is_ok_and(|matches| matches))
    }

    fn compare(&mut self, pattern: &[u8], text: &[u8]) -> Result<bool, Spent> {
        let (mut p, mut t) = (0, 0);
        // Where to go on when what follows the last star does not match here.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            self.step()?;
            if pattern.get(p) == Some(&b'*') {
                p += 1;
                if p == pattern.len() {
                    return Ok(true);
                }
                retry = Some((p, t));
                continue;
            }
            if let Some(&byte) = text.get(t) {
                if let Some(next) = self.one(pattern, p, byte)? {
                    p = next;
                    t += 1;
                    continue;
                }
            } else {
                // Nothing is left that a star could stand for: what comes later is even shorter.
                return Ok(p == pattern.len());
            }
            match &mut retry {
                Some((after_star, from)) => {
                    *from += 1;
                    (p, t) = (*after_star, *from);
                }
                None => return Ok(false),
            }
        }
    }

    /// Where the pattern goes on when its part at `p` matches the byte.
    fn one(&mut self, pattern: &[u8], p: usize, byte: u8) -> Result<Option<usize>, Spent> {
        Ok(match pattern.get(p) {
            None => None,
            Some(b'?') => Some(p + 1),
            Some(b'[') => self.class(pattern, p + 1, byte)?,
            Some(b'\\') if p + 1 < pattern.len() => (pattern[p + 1] == byte).then_some(p + 2),
            Some(literal) => (*literal == byte).then_some(p + 1),
        })
    }

    fn class(&mut self, pattern: &[u8], mut p: usize, byte: u8) -> Result<Option<usize>, Spent> {
        let negated = pattern.get(p) == Some(&b'^');
        p += usize::from(negated);
        let mut found = false;
        loop {
            self.step()?;
            match pattern.get(p..) {
                // A class without an end reaches to the end of the pattern.
                None | Some([]) => return Ok((found != negated).then_some(p)),
                Some([b']', ..]) => return Ok((found != negated).then_some(p + 1)),
                Some([b'\\', escaped, ..]) => {
                    found |= *escaped == byte;
                    p += 2;
                }
                Some([low, b'-', high, ..]) => {
                    let range = if low <= high { *low..=*high } else { *high..=*low };
                    found |= range.contains(&byte);
                    p += 3;
                }
                Some([literal, ..]) => {
                    found |= *literal == byte;
                    p += 1;
                }
            }
        }
    }

    fn step(&mut self) -> Result<(), Spent> {
        self.left = self.left.checked_sub(1).ok_or(Spent)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &[u8], text: &[u8]) -> bool {
        Matching::new(&Work::default()).matches(pattern, text).unwrap()
    }

    /// What patterns mean, in as few words as possible.
    fn simply(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|n| simply(rest, &text[n..])),
            ([], _) | (_, []) => pattern.len() == text.len(),
            (_, [byte, later @ ..]) => Matching { work: &Work::default(), left: 1000 }
                .one(pattern, 0, *byte)
                .unwrap()
                .is_some_and(|next| simply(&pattern[next..], later)),
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_the_simple_way_finds(pattern in r"[ab*?\\\[\]^-]{0,10}", text in "[ab]{0,10}") {
            let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(matches(pattern, text), simply(pattern, text));
        }
    }

    #[test]
    fn patterns_mean_what_redis_says() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("sess:*", "sess:abc", true),
            ("sess:*", "other", false),
            ("*a*b*c", "xxaxxbxxc", true),
            ("*a*b*c", "xxaxxcxxb", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[^e]llo", "hello", false),
            ("[^a]", "^", true),
            ("[^a]", "[", true),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            (r"h\*llo", "h*llo", true),
            (r"h\*llo", "hello", false),
            (r"[\]]", "]", true),
            ("", "", true),
            ("", "a", false),
            ("[abc", "b", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    /// Stars, and classes, which take as many steps as they are long.
    #[test]
    fn a_request_ends_when_its_steps_are_spent() {
        let text = vec![b'a'; 1024 * 1024];
        for pattern in [
            format!("*{}b", "a".repeat(2000)),
            format!("{}b", "*a".repeat(2000)),
            format!("*[{}]", "b".repeat(2000)),
        ] {
            let work = Work::default();
            work.note(Task::Compare, 49_000_000);
            let mut request = Matching::new(&work);
            let error = request.matches(pattern.as_bytes(), &text).unwrap_err().to_string();
            assert!(error.contains("takes too long"), "{error}");
            // Nor does it begin anew with the next name.
            assert!(request.matches(b"a", b"a").is_err());
        }
        let work = Work::default();
        assert!(!Matching::new(&work).matches(&[b'a'; LONGEST], b"a").unwrap());
        let error =
            Matching::new(&work).matches(&[b'a'; LONGEST + 1], b"a").unwrap_err().to_string();
        assert!(error.contains("4096"), "{error}");
    }

    /// So that listing everything costs nothing.
    #[test]
    fn a_star_at_the_end_takes_one_step() {
        let work = Work::default();
        let text = [b"sess:", &[b'a'; 1000][..]].concat();
        assert!(Matching::new(&work).matches(b"sess:*", &text).unwrap());
        assert_eq!(work.spent(), 6);
    }
}
