//! The stack machine that a pickle is a program for (`pickletools` describes the opcodes).

use std::collections::HashMap;

use super::global::{self, Global};
use super::{Id, Integer, Node, malformed};
use crate::wire::serializer::SerializerError;

type Result<T, E = SerializerError> = std::result::Result<T, E>;

pub(super) struct Machine<'a> {
    rest: &'a [u8],
    nodes: Vec<Node>,
    most_nodes: usize,
    /// Bytes that calls may still copy: one text may be an argument many times.
    copies_left: usize,
    stack: Vec<Id>,
    /// The stack's heights at the marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Of each kind of thing that a pickle makes there are at most `most_nodes`.
    pub(super) fn new(pickle: &'a [u8], most_nodes: usize) -> Self {
        Self {
            rest: pickle,
            nodes: Vec::new(),
            most_nodes,
            copies_left: pickle.len().saturating_mul(2),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }

    /// All values, and which of them the pickle stands for. As many steps as there are bytes.
    pub(super) fn run(mut self) -> Result<(Vec<Node>, Id)> {
        loop {
            let [opcode] = self.array()?;
            if opcode == b'.' {
                let root = self.pop()?;
                return Ok((self.nodes, root));
            }
            self.step(opcode)?;
        }
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            b'(' => {
                self.room(self.marks.len())?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(|_| ()),
            b'1' => self.since_mark().map(|_| ()),
            b'2' => {
                let top = self.top()?;
                self.push_id(top)
            }
            b'N' => self.push(Node::None),
            0x88 => self.push(Node::Bool(true)),
            0x89 => self.push(Node::Bool(false)),
            b'I' | b'L' | b'J' | b'K' | b'M' | 0x8a | 0x8b => self.integer(opcode),
            b'F' | b'G' => self.float(opcode),
            b'V' | b'X' | 0x8c | 0x8d => self.text(opcode),
            b'B' | b'C' | 0x8e => self.bytes(opcode),
            0x96 => {
                let length = self.length8()?;
                self.take(length)?;
                self.push(Node::Foreign("a bytearray"))
            }
            b']' => self.push(Node::List(Vec::new())),
            b'}' => self.push(Node::Mapping(Vec::new())),
            b')' => self.push(Node::Tuple(Vec::new())),
            0x8f => self.push(Node::Foreign("a set")),
            b'l' => self.since_mark().and_then(|items| self.push(Node::List(items))),
            b't' => self.since_mark().and_then(|items| self.push(Node::Tuple(items))),
            b'd' => {
                let pairs = self.pairs()?;
                self.push(Node::Mapping(pairs))
            }
            0x91 => self.since_mark().and_then(|_| self.push(Node::Foreign("a frozenset"))),
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let mut items = (0..count).map(|_| self.pop()).collect::<Result<Vec<_>>>()?;
                items.reverse();
                self.push(Node::Tuple(items))
            }
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])
            }
            b'e' => {
                let items = self.since_mark()?;
                self.append(&items)
            }
            0x90 => self.since_mark().map(|_| ()),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[(key, value)])
            }
            b'u' => {
                let pairs = self.pairs()?;
                self.set(&pairs)
            }
            b'p' | b'q' | b'r' | 0x94 => self.remember(opcode),
            b'g' | b'h' | b'j' => self.recall(opcode),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::find(module, name)?;
                self.push(Node::Global(global))
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Node::Text(module), Node::Text(name)) = (self.node(module), self.node(name))
                else {
                    return Err(malformed("a global's name is no text"));
                };
                let global = Global::find(module, name)?;
                self.push(Node::Global(global))
            }
            b'R' => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)
            }
            0x81 => {
                let (arguments, class) = (self.pop()?, self.pop()?);
                self.new_object(class, arguments)
            }
            b'b' => {
                let state = self.pop()?;
                let object = self.top()?;
                let built = global::build(&self.nodes, self.node(object), self.node(state))?;
                self.nodes[object as usize] = built;
                Ok(())
            }
            0x80 => match self.array()? {
                [0..=5] => Ok(()),
                [protocol] => Err(malformed(format!("protocol {protocol} is unknown"))),
            },
            // Frames are for readers of streams.
            0x95 => self.array::<8>().map(|_| ()),
            b'P' | b'Q' | b'i' | b'o' | b'S' | b'T' | b'U' | 0x82..=0x84 | 0x92 | 0x97 | 0x98 => {
                // Objects by reference, old classes, strings of Python 2, buffers elsewhere.
                let name = format!("opcode {}", opcode.escape_ascii());
                Err(SerializerError::Forbidden { name })
            }
            _ => Err(malformed(format!("{} is no opcode", opcode.escape_ascii()))),
        }
    }

    fn integer(&mut self, opcode: u8) -> Result<()> {
        let node = match opcode {
            b'J' => Node::Integer(i64::from(i32::from_le_bytes(self.array()?)).into()),
            b'K' => Node::Integer(i64::from(u8::from_le_bytes(self.array()?)).into()),
            b'M' => Node::Integer(i64::from(u16::from_le_bytes(self.array()?)).into()),
            0x8a => {
                let [length] = self.array()?;
                Node::Integer(little_endian(self.take(length.into())?)?)
            }
            0x8b => {
                let length = self.length4()?;
                Node::Integer(little_endian(self.take(length)?)?)
            }
            _ => match self.line()? {
                "00" => Node::Bool(false),
                "01" => Node::Bool(true),
                text => Node::Integer(decimal(text.strip_suffix('L').unwrap_or(text))?),
            },
        };
        self.push(node)
    }

    fn float(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'G' => f64::from_be_bytes(self.array()?),
            _ => self.line()?.parse().map_err(|_| malformed("a line is no float"))?,
        };
        self.push(Node::Float(value))
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let text = match opcode {
            b'V' => raw_unicode_escape(self.line_bytes()?)?,
            b'X' => self.length4().and_then(|length| self.utf8(length))?,
            0x8c => self.length1().and_then(|length| self.utf8(length))?,
            _ => self.length8().and_then(|length| self.utf8(length))?,
        };
        self.push(Node::Text(text))
    }

    fn bytes(&mut self, opcode: u8) -> Result<()> {
        let length = match opcode {
            b'C' => self.length1()?,
            b'B' => self.length4()?,
            _ => self.length8()?,
        };
        let bytes = self.take(length)?.into();
        self.push(Node::Bytes(bytes))
    }

    fn append(&mut self, items: &[Id]) -> Result<()> {
        let list = self.top()?;
        match &mut self.nodes[list as usize] {
            Node::List(list) => {
                list.extend_from_slice(items);
                Ok(())
            }
            _ => Err(malformed("an item is appended to what is no list")),
        }
    }

    fn set(&mut self, pairs: &[(Id, Id)]) -> Result<()> {
        let mapping = self.top()?;
        match &mut self.nodes[mapping as usize] {
            Node::Mapping(mapping) => {
                mapping.extend_from_slice(pairs);
                Ok(())
            }
            _ => Err(malformed("a key is set in what is no mapping")),
        }
    }

    fn remember(&mut self, opcode: u8) -> Result<()> {
        let place = match opcode {
            b'p' => self.memo_line()?,
            b'q' => self.array().map(|[place]: [u8; 1]| place.into())?,
            b'r' => u32::from_le_bytes(self.array()?),
            _ => u32::try_from(self.memo.len()).map_err(|_| malformed("the memo is full"))?,
        };
        let top = self.top()?;
        self.room(self.memo.len())?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, opcode: u8) -> Result<()> {
        let place = match opcode {
            b'g' => self.memo_line()?,
            b'h' => self.array().map(|[place]: [u8; 1]| place.into())?,
            _ => u32::from_le_bytes(self.array()?),
        };
        let found = self.memo.get(&place).copied();
        let id = found.ok_or_else(|| malformed(format!("nothing was stored as {place}")))?;
        self.push_id(id)
    }

    fn memo_line(&mut self) -> Result<u32> {
        self.line()?.parse().map_err(|_| malformed("a line is no place of the memo"))
    }

    fn call(&mut self, callable: Id, arguments: Id) -> Result<()> {
        let (Node::Global(global), Node::Tuple(arguments)) =
            (self.node(callable), self.node(arguments))
        else {
            return Err(malformed("the pickle calls what cannot be called"));
        };
        if let (Global::Signature, [mapping]) = (*global, arguments.as_slice())
            && let Node::Mapping(_) = self.node(*mapping)
        {
            return self.push_id(*mapping);
        }
        let arguments: Vec<&Node> = arguments.iter().take(4).map(|id| self.node(*id)).collect();
        let copied: usize = arguments.iter().map(|argument| argument.text_length()).sum();
        let made = global.call(&arguments)?;
        let left = self.copies_left.checked_sub(copied);
        self.copies_left = left.ok_or_else(|| malformed("it uses the same text too often"))?;
        self.push(made)
    }

    fn new_object(&mut self, class: Id, arguments: Id) -> Result<()> {
        match (self.node(class), self.node(arguments)) {
            (Node::Global(Global::Uuid), Node::Tuple(arguments)) if arguments.is_empty() => {
                self.push(Node::UuidToBe)
            }
            (Node::Global(global), Node::Tuple(_)) => Err(malformed(format!(
                "{} is made in another way than Python makes it",
                global.name()
            ))),
            _ => Err(malformed("the pickle makes an object of what is no class")),
        }
    }

    fn push(&mut self, node: Node) -> Result<()> {
        self.room(self.nodes.len())?;
        let id = Id::try_from(self.nodes.len()).map_err(|_| malformed("it has too many values"))?;
        self.nodes.push(node);
        self.push_id(id)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        self.room(self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    /// Whether one more may be added to `count` things of a kind.
    fn room(&self, count: usize) -> Result<()> {
        if count < self.most_nodes {
            return Ok(());
        }
        Err(SerializerError::TooManyValues { most: self.most_nodes })
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    /// Nothing is taken from below the last mark.
    fn bottom(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        let above = &self.stack[self.bottom()..];
        above.last().copied().ok_or_else(|| malformed("the stack is empty"))
    }

    fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn since_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| malformed("there is no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pairs(&mut self) -> Result<Vec<(Id, Id)>> {
        let items = self.since_mark()?;
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(malformed("a key has no value"));
        }
        Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
    }

    fn line_bytes(&mut self) -> Result<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n').ok_or_else(cut_off)?;
        let line = self.take(end)?;
        self.take(1)?;
        Ok(line)
    }

    fn line(&mut self) -> Result<&'a str> {
        let line = self.line_bytes()?;
        std::str::from_utf8(line).map_err(|_| malformed("a line is not UTF-8"))
    }

    fn utf8(&mut self, length: usize) -> Result<Box<str>> {
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map(Into::into).map_err(|_| malformed("a string is not UTF-8"))
    }

    fn length1(&mut self) -> Result<usize> {
        self.array().map(|[length]: [u8; 1]| length.into())
    }

    fn length4(&mut self) -> Result<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| cut_off())
    }

    fn length8(&mut self) -> Result<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| cut_off())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }
}

fn cut_off() -> SerializerError {
    malformed("it ends before its end")
}

/// Two's complement, as Python writes long integers.
fn little_endian(bytes: &[u8]) -> Result<Integer> {
    let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let filler = if is_negative { 0xff } else { 0 };
    let too_long =
        || SerializerError::NotPlain { what: format!("an integer of {} bytes", bytes.len()) };
    let mut wide = [filler; 17];
    let (low, high) = bytes.split_at(bytes.len().min(wide.len()));
    if high.iter().any(|byte| *byte != filler) {
        return Err(too_long());
    }
    wide[..low.len()].copy_from_slice(low);
    let [low @ .., sign] = wide;
    if sign != filler {
        return Err(too_long());
    }
    let low = u128::from_le_bytes(low);
    // The magnitude of the smallest negative number of 128 bits and its sign has 129 bits.
    let magnitude = if is_negative { (!low).checked_add(1).ok_or_else(too_long)? } else { low };
    Ok(Integer { is_negative, magnitude })
}

fn decimal(text: &str) -> Result<Integer> {
    let (is_negative, digits) =
        text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(malformed("a line is no integer"));
    }
    let magnitude = digits.parse().map_err(|_| SerializerError::NotPlain {
        what: format!("an integer of {} digits", digits.len()),
    })?;
    Ok(Integer { is_negative, magnitude })
}

/// Python's codec `raw-unicode-escape`, as protocol 0 writes text: Latin-1 with `\uXXXX` and
/// `\UXXXXXXXX`.
fn raw_unicode_escape(line: &[u8]) -> Result<Box<str>> {
    let no_text = || malformed("a line is no text");
    let line: String = line.iter().map(|byte| char::from(*byte)).collect();
    let line = line.as_str();
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let length = match escape.chars().next() {
            Some('u') => 4,
            Some('U') => 8,
            _ => {
                text.push('\\');
                rest = escape;
                continue;
            }
        };
        let digits = escape.get(1..=length).ok_or_else(no_text)?;
        let code = u32::from_str_radix(digits, 16).map_err(|_| no_text())?;
        text.push(char::from_u32(code).ok_or_else(no_text)?);
        rest = &escape[length + 1..];
    }
    text.push_str(rest);
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_integers_are_twos_complement() {
        for (bytes, is_negative, magnitude) in [
            (&b""[..], false, 0),
            (b"\xff", true, 1),
            (b"\xff\x00", false, 255),
            (b"\x00\x80", true, 32768),
            (&[0xff; 30], true, 1),
        ] {
            assert_eq!(little_endian(bytes).unwrap(), Integer { is_negative, magnitude });
        }
        let largest = [&[0xff; 16][..], &[0]].concat();
        assert_eq!(little_endian(&largest).unwrap().magnitude, u128::MAX);
        assert!(little_endian(&[&[0; 16][..], &[1]].concat()).is_err());
        assert!(little_endian(&[&[0; 16][..], &[0xff]].concat()).is_err());
    }

    #[test]
    fn text_of_protocol_0_is_unescaped() {
        let text = raw_unicode_escape(b"\xe9\\u00e9\\U0001f600\\x").unwrap();
        assert_eq!(&*text, "\u{e9}\u{e9}\u{1f600}\\x");
        assert!(raw_unicode_escape(br"\ud800").is_err());
        assert!(raw_unicode_escape(br"\u00").is_err());
    }
}
