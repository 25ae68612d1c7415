//! A transaction whose large arguments are not copied.
//!
//! The client copies an argument into its command, the command into its pipeline, and that into
//! the buffer of its connection; a large reply once more for each time that the connection's
//! buffer has to grow. Here the bytes go from where they are into the socket, and from there to
//! where they stay.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Buf;
use redis::{Arg, Cmd, Pipeline, RedisError, Value};

use super::outage::is_outage;

/// Arguments from this size on are sent from where they are.
const SHARED: usize = 4 << 10;
const MULTI: &[u8] = b"*1\r\n$5\r\nMULTI\r\n";
const EXEC: &[u8] = b"*1\r\n$4\r\nEXEC\r\n";

/// Commands that Redis does in one step.
#[derive(Debug, Default)]
pub(super) struct Transaction<'a> {
    commands: Vec<Vec<&'a [u8]>>,
}

impl<'a> Transaction<'a> {
    /// Adds a command; what follows its name are its arguments.
    pub(super) fn command<const N: usize>(&mut self, command: [&'a [u8]; N]) {
        self.commands.push(command.into());
    }

    /// Adds a command that the client's own methods have made.
    pub(super) fn add(&mut self, command: &'a Cmd) {
        let arguments = command.args_iter().filter_map(|argument| match argument {
            Arg::Simple(bytes) => Some(bytes),
            // None of the commands is a SCAN.
            _ => None,
        });
        self.commands.push(arguments.collect());
    }

    /// Adds what another one does.
    pub(super) fn append(&mut self, other: &Transaction<'a>) {
        self.commands.extend_from_slice(&other.commands);
    }

    /// The same for the client's own connection.
    pub(super) fn as_pipeline(&self) -> Pipeline {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        for command in &self.commands {
            let size = command.iter().map(|argument| argument.len()).sum();
            let mut copy = Cmd::with_capacity(command.len(), size);
            for argument in command {
                copy.arg(*argument);
            }
            pipeline.add_command(copy);
        }
        pipeline
    }

    /// What is sent.
    pub(super) fn encode(&self) -> Parts<'a> {
        self.parts(MULTI.to_vec(), EXEC)
    }

    /// What is sent of one that goes on with another, after what is asked before it.
    pub(super) fn encode_opening(&self, mut questions: Vec<u8>) -> Parts<'a> {
        questions.extend_from_slice(MULTI);
        self.parts(questions, b"")
    }

    /// What is sent of one that goes on where another has begun.
    pub(super) fn encode_rest(&self) -> Parts<'a> {
        self.parts(Vec::new(), EXEC)
    }

    fn parts(&self, mut text: Vec<u8>, end: &[u8]) -> Parts<'a> {
        let mut parts = VecDeque::new();
        for command in &self.commands {
            text.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for argument in command {
                text.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
                if argument.len() < SHARED {
                    text.extend_from_slice(argument);
                } else {
                    parts.push_back(Cow::Owned(std::mem::take(&mut text)));
                    parts.push_back(Cow::Borrowed(*argument));
                }
                text.extend_from_slice(b"\r\n");
            }
        }
        text.extend_from_slice(end);
        parts.push_back(Cow::Owned(text));
        Parts { parts, sent: 0 }
    }

    /// How many replies there are.
    pub(super) fn replies(&self) -> usize {
        // That of MULTI and, for each command, that it was queued, before that of EXEC.
        self.commands.len() + 2
    }

    /// What the commands were answered, or why none of them was done.
    pub(super) fn outcome(mut replies: Vec<Value>) -> Result<Vec<Value>, RedisError> {
        let executed = replies.pop();
        let mut refusals = replies.into_iter().filter_map(|reply| match reply {
            Value::ServerError(refusal) => Some(RedisError::from(refusal)),
            _ => None,
        });
        if let Some(first) = refusals.next() {
            // What is over some time explains more than what is not.
            let passing = refusals.find(|refusal| !is_outage(&first) && is_outage(refusal));
            return Err(passing.unwrap_or(first));
        }
        match executed.map(Value::extract_error).transpose()? {
            Some(Value::Array(answers)) => Ok(answers),
            _ => Err(RedisError::from((
                redis::ErrorKind::UnexpectedReturnType,
                "EXEC is answered with a list",
            ))),
        }
    }
}

/// Bytes that follow each other on the wire and nowhere else.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    /// None is empty.
    parts: VecDeque<Cow<'a, [u8]>>,
    /// Bytes of the first part that were sent; fewer than it has.
    sent: usize,
}

impl Buf for Parts<'_> {
    fn remaining(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum::<usize>() - self.sent
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| &part[self.sent..])
    }

    fn chunks_vectored<'b>(&'b self, slices: &mut [IoSlice<'b>]) -> usize {
        let rest = self.parts.iter().skip(1).map(|part| &part[..]);
        let unsent = self.parts.front().map(|part| &part[self.sent..]).into_iter().chain(rest);
        slices.iter_mut().zip(unsent).map(|(slice, part)| *slice = IoSlice::new(part)).count()
    }

    fn advance(&mut self, count: usize) {
        self.sent += count;
        while let Some(part) = self.parts.front().filter(|part| self.sent >= part.len()) {
            self.sent -= part.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::{ErrorKind, ServerErrorKind};

    fn sent(mut parts: Parts<'_>, step: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while parts.has_remaining() {
            let count = parts.chunk().len().min(step);
            bytes.extend_from_slice(&parts.chunk()[..count]);
            parts.advance(count);
        }
        bytes
    }

    fn answers(text: &str) -> Vec<Value> {
        text.split('|').map(|reply| redis::parse_redis_value(reply.as_bytes()).unwrap()).collect()
    }

    #[test]
    fn what_is_sent_is_what_the_client_sends() {
        let mut transaction = Transaction::default();
        let large = vec![b'x'; SHARED];
        transaction.command([b"SET", b"key", &large, b"EX", b"60"]);
        let mut script = redis::cmd("EVAL");
        script.arg("return 1").arg(0).arg("");
        transaction.add(&script);
        transaction.command([b"PUBLISH", b"key", &large]);
        let expected = transaction.as_pipeline().get_packed_pipeline();
        for step in [1, 7, usize::MAX] {
            assert_eq!(sent(transaction.encode(), step), expected);
        }
        let (mut opening, mut rest) = (Transaction::default(), Transaction::default());
        opening.command([b"SET", b"key", &large, b"EX", b"60"]);
        rest.add(&script);
        rest.command([b"PUBLISH", b"key", &large]);
        let questions = b"*1\r\n$4\r\nPING\r\n";
        let begun = sent(opening.encode_opening(questions.to_vec()), usize::MAX);
        let ended = sent(rest.encode_rest(), usize::MAX);
        assert_eq!([begun, ended].concat(), [&questions[..], &expected].concat());
        opening.append(&rest);
        assert_eq!(opening.as_pipeline().get_packed_pipeline(), expected);
        let mut slices = [IoSlice::new(&[]); 16];
        assert_eq!(transaction.encode().chunks_vectored(&mut slices), 5);
    }

    #[test]
    fn a_refusal_that_passes_is_told_before_one_that_does_not() {
        let refused = |text| Transaction::outcome(answers(text)).unwrap_err();
        let error = refused("+OK\r\n|-NOPERM no\r\n|-OOM full\r\n|-EXECABORT discarded\r\n");
        assert_eq!(error.code(), Some("OOM"));
        let error = refused("+OK\r\n|-NOPERM no\r\n|+QUEUED\r\n|-EXECABORT discarded\r\n");
        assert_eq!(error.kind(), ErrorKind::Server(ServerErrorKind::NoPerm));
        let error = refused("+OK\r\n|+QUEUED\r\n|*1\r\n-LOADING wait\r\n");
        assert!(is_outage(&error));
        assert_eq!(refused("+OK\r\n|+QUEUED\r\n|*-1\r\n").kind(), ErrorKind::UnexpectedReturnType);
        let done = Transaction::outcome(answers("+OK\r\n|+QUEUED\r\n|*1\r\n:7\r\n")).unwrap();
        assert_eq!(done, [Value::Int(7)]);
    }
}
