//! Lists of numbers as the kernel writes them (`0-3,7`), and as its system calls take them: one bit a number, in words.

/// A number that no machine has so many of: the words of a set stay few.
const LIMIT: usize = 1 << 16;

/// `0-3,7` as the words 0b1000_1111. Spaces around a number are fine, as for runc.
pub(super) fn words(text: &str) -> Result<Vec<u64>, String> {
    let mut words = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let [first, last] = [first, last].map(|number| number.trim().parse::<usize>().ok().filter(|n| *n < LIMIT));
        let (Some(first), Some(last)) = (first, last) else {
            return Err(format!("{part:?} is no number below {LIMIT} and no range of them"));
        };
        if first > last {
            return Err(format!("{part:?} ends before it begins"));
        }
        words.resize(words.len().max(last / 64 + 1), 0);
        for number in first..=last {
            words[number / 64] |= 1 << (number % 64);
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn lists() {
        assert_eq!(words("0-3,7"), Ok(vec![0b1000_1111]));
        assert_eq!(words("64, 2"), Ok(vec![4, 1]));
        assert_eq!(words("1100").unwrap().len(), 18, "more than 1024");
        for wrong in ["", "a", "1-", "-1", "3-1", "1,,2", "65536", "1-99999999999999999999"] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }
}
