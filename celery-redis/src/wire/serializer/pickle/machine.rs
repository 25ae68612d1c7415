//! The stack machine that a pickle is a program for (`pickletools` describes the opcodes).

use std::collections::HashMap;

use super::global::{self, Global};
use super::reader::{Reader, decimal, little_endian, raw_unicode_escape};
use super::{Id, Node, malformed};
use crate::wire::serializer::SerializerError;

type Result<T, E = SerializerError> = std::result::Result<T, E>;

pub(super) struct Machine<'a> {
    reader: Reader<'a>,
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
            reader: Reader::new(pickle),
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
            let [opcode] = self.reader.array()?;
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
                let length = self.reader.length8()?;
                self.reader.take(length)?;
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
                let (module, name) = (self.reader.line()?, self.reader.line()?);
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
            0x80 => match self.reader.array()? {
                [0..=5] => Ok(()),
                [protocol] => Err(malformed(format!("protocol {protocol} is unknown"))),
            },
            // Frames are for readers of streams.
            0x95 => self.reader.array::<8>().map(|_| ()),
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
            b'J' => Node::Integer(i64::from(i32::from_le_bytes(self.reader.array()?)).into()),
            b'K' => Node::Integer(i64::from(u8::from_le_bytes(self.reader.array()?)).into()),
            b'M' => Node::Integer(i64::from(u16::from_le_bytes(self.reader.array()?)).into()),
            0x8a => {
                let [length] = self.reader.array()?;
                Node::Integer(little_endian(self.reader.take(length.into())?)?)
            }
            0x8b => {
                let length = self.reader.length4()?;
                Node::Integer(little_endian(self.reader.take(length)?)?)
            }
            _ => match self.reader.line()? {
                "00" => Node::Bool(false),
                "01" => Node::Bool(true),
                text => Node::Integer(decimal(text.strip_suffix('L').unwrap_or(text))?),
            },
        };
        self.push(node)
    }

    fn float(&mut self, opcode: u8) -> Result<()> {
        let value = match opcode {
            b'G' => f64::from_be_bytes(self.reader.array()?),
            _ => self.reader.line()?.parse().map_err(|_| malformed("a line is no float"))?,
        };
        self.push(Node::Float(value))
    }

    fn text(&mut self, opcode: u8) -> Result<()> {
        let text = match opcode {
            b'V' => raw_unicode_escape(self.reader.line_bytes()?)?,
            b'X' => self.reader.length4().and_then(|length| self.reader.utf8(length))?,
            0x8c => self.reader.length1().and_then(|length| self.reader.utf8(length))?,
            _ => self.reader.length8().and_then(|length| self.reader.utf8(length))?,
        };
        self.push(Node::Text(text))
    }

    fn bytes(&mut self, opcode: u8) -> Result<()> {
        let length = match opcode {
            b'C' => self.reader.length1()?,
            b'B' => self.reader.length4()?,
            _ => self.reader.length8()?,
        };
        let bytes = self.reader.take(length)?.into();
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
            b'q' => self.reader.array().map(|[place]: [u8; 1]| place.into())?,
            b'r' => u32::from_le_bytes(self.reader.array()?),
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
            b'h' => self.reader.array().map(|[place]: [u8; 1]| place.into())?,
            _ => u32::from_le_bytes(self.reader.array()?),
        };
        let found = self.memo.get(&place).copied();
        let id = found.ok_or_else(|| malformed(format!("nothing was stored as {place}")))?;
        self.push_id(id)
    }

    fn memo_line(&mut self) -> Result<u32> {
        self.reader.line()?.parse().map_err(|_| malformed("a line is no place of the memo"))
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
}
