//! Redis on one raw socket: commands as bytes, replies read and forgotten unless they matter.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// After which something is wrong, rather than slow.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// Why Redis did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedisError {
    #[error("Redis: {0}")]
    Io(#[from] io::Error),
    #[error("Redis answered {0}")]
    Refused(String),
    #[error("Redis answered what nobody asked for: {0}")]
    Unexpected(String),
}

/// Both ends of a connection to the Redis of this port.
pub(crate) fn connect(port: u16) -> Result<(TcpStream, Replies), RedisError> {
    let writer = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    writer.set_nodelay(true)?;
    writer.set_read_timeout(Some(LONGEST_SILENCE))?;
    let replies = Replies { reader: BufReader::with_capacity(1 << 18, writer.try_clone()?) };
    Ok((writer, replies))
}

/// Appends a command.
pub(crate) fn command(into: &mut Vec<u8>, arguments: &[&[u8]]) {
    // Writing to memory does not fail.
    let _ = write!(into, "*{}\r\n", arguments.len());
    for argument in arguments {
        let _ = write!(into, "${}\r\n", argument.len());
        into.extend_from_slice(argument);
        into.extend_from_slice(b"\r\n");
    }
}

/// A reply, as far as anybody looks at it.
pub(crate) enum Reply {
    Integer,
    Bulk(Vec<u8>),
    Nothing,
    Array(Vec<Reply>),
}

/// The replies of one connection, in order.
pub(crate) struct Replies {
    reader: BufReader<TcpStream>,
}

impl Replies {
    /// Reads the next reply whole.
    pub(crate) fn read(&mut self) -> Result<Reply, RedisError> {
        let (kind, rest) = self.line()?;
        let number = || {
            rest.parse::<i64>()
                .map_err(|_| RedisError::Unexpected(format!("{}{rest}", char::from(kind))))
        };
        Ok(match kind {
            b'+' => Reply::Nothing,
            b':' => Reply::Integer,
            b'-' => return Err(RedisError::Refused(rest)),
            b'$' => match usize::try_from(number()?) {
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.reader.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Reply::Bulk(bytes)
                }
                Err(_) => Reply::Nothing,
            },
            b'*' => {
                let count = number()?;
                Reply::Array((0..count).map(|_| self.read()).collect::<Result<_, _>>()?)
            }
            _ => return Err(RedisError::Unexpected(format!("{}{rest}", char::from(kind)))),
        })
    }

    /// Passes over so many replies that are no arrays; an error among them is one here.
    pub(crate) fn skip(&mut self, count: u64) -> Result<(), RedisError> {
        for _ in 0..count {
            let (kind, rest) = self.line()?;
            match kind {
                b'+' | b':' => {}
                b'-' => return Err(RedisError::Refused(rest)),
                b'$' => {
                    // -1 is the reply for nothing, which has no end of its own either.
                    let mut left = rest.parse::<usize>().map_or(0, |length| length + 2);
                    while left > 0 {
                        let part = self.reader.fill_buf()?.len().min(left);
                        if part == 0 {
                            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                        }
                        self.reader.consume(part);
                        left -= part;
                    }
                }
                _ => return Err(RedisError::Unexpected(format!("{}{rest}", char::from(kind)))),
            }
        }
        Ok(())
    }

    fn line(&mut self) -> Result<(u8, String), RedisError> {
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let rest = line.get(1..).unwrap_or_default().trim_end().to_owned();
        Ok((line.as_bytes()[0], rest))
    }
}
