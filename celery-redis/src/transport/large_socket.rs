//! Connections for transactions with large values, each used by one transaction at a time.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Client, ConnectionAddr, Pipeline, RedisConnectionInfo, RedisError, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::transaction::Transaction;

/// Connections that are kept while nobody uses them.
const KEPT: usize = 4;
/// Bytes that are read before it is known what they are.
const BUFFER: usize = 4 << 10;
/// The longest line: an error, a number, or how long what follows is.
const LONGEST_LINE: usize = 64 << 10;
/// How deep a list may be in others; a chord's parts are in the fourth.
const DEEPEST: usize = 16;

/// Those that nobody uses just now.
#[derive(Default)]
pub(super) struct Idle(Mutex<Vec<LargeSocket>>);

impl Idle {
    /// One that the server has not closed.
    pub(super) async fn take(&self) -> Option<LargeSocket> {
        loop {
            let mut socket = self.sockets().pop()?;
            // The runtime learns meanwhile of ends that have arrived.
            tokio::task::yield_now().await;
            if socket.is_open() {
                return Some(socket);
            }
        }
    }

    /// Keeps one whose last reply was read.
    pub(super) fn keep(&self, socket: LargeSocket) {
        let mut sockets = self.sockets();
        if sockets.len() < KEPT {
            sockets.push(socket);
        }
    }

    fn sockets(&self) -> MutexGuard<'_, Vec<LargeSocket>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that nobody else uses.
pub(super) struct LargeSocket {
    stream: Box<dyn Stream>,
    /// What was read and belongs to the next replies.
    unread: BytesMut,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// Whether such connections are made to that address: TLS copies all bytes anyway.
pub(super) fn can_reach(address: &ConnectionAddr) -> bool {
    matches!(address, ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_))
}

impl LargeSocket {
    /// Connects and logs in as that client does.
    pub(super) async fn connect(client: &Client) -> Result<Self, RedisError> {
        let info = client.get_connection_info();
        let stream: Box<dyn Stream> = match info.addr() {
            ConnectionAddr::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            ConnectionAddr::Unix(path) => Box::new(UnixStream::connect(path).await?),
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        let mut socket = Self { stream, unread: BytesMut::with_capacity(BUFFER) };
        socket.log_in(info.redis_settings()).await?;
        Ok(socket)
    }

    async fn log_in(&mut self, login: &RedisConnectionInfo) -> Result<(), RedisError> {
        if let Some(password) = login.password() {
            let mut auth = redis::cmd("AUTH");
            auth.arg(login.username()).arg(password);
            self.ask(&auth).await?;
        }
        if login.db() != 0 {
            self.ask(redis::cmd("SELECT").arg(login.db())).await?;
        }
        Ok(())
    }

    async fn ask(&mut self, command: &redis::Cmd) -> Result<Value, RedisError> {
        self.stream.write_all(&command.get_packed_command()).await?;
        self.reply(0).await?.extract_error()
    }

    /// Sends a transaction and reads all of its replies.
    pub(super) async fn exchange(
        &mut self,
        transaction: &Transaction<'_>,
    ) -> Result<Vec<Value>, RedisError> {
        self.stream.write_all_buf(&mut transaction.encode()).await?;
        self.replies(transaction.replies()).await
    }

    /// Sends questions and, without waiting, how a transaction begins; reads the answers.
    pub(super) async fn begin(
        &mut self,
        questions: &Pipeline,
        opening: &Transaction<'_>,
    ) -> Result<Vec<Value>, RedisError> {
        let mut begin = opening.encode_opening(questions.get_packed_pipeline());
        self.stream.write_all_buf(&mut begin).await?;
        self.replies(questions.len()).await
    }

    /// Sends how the transaction that has begun so ends, and reads all of its replies.
    pub(super) async fn end(
        &mut self,
        opening: &Transaction<'_>,
        rest: &Transaction<'_>,
    ) -> Result<Vec<Value>, RedisError> {
        self.stream.write_all_buf(&mut rest.encode_rest()).await?;
        let mut whole = Transaction::default();
        whole.append(opening);
        whole.append(rest);
        self.replies(whole.replies()).await
    }

    async fn replies(&mut self, count: usize) -> Result<Vec<Value>, RedisError> {
        let mut replies = Vec::with_capacity(count);
        for _ in 0..count {
            replies.push(self.reply(0).await?);
        }
        Ok(replies)
    }

    /// Whether nothing has been read since the last reply, not even the end.
    fn is_open(&mut self) -> bool {
        self.unread.is_empty() && self.stream.read(&mut [0]).now_or_never().is_none()
    }

    fn reply(&mut self, depth: usize) -> BoxFuture<'_, Result<Value, RedisError>> {
        async move {
            let line = self.line().await?;
            match line.first() {
                Some(b'$') => match length(&line)? {
                    Some(length) => Ok(Value::BulkString(self.bulk(length).await?)),
                    None => Ok(Value::Nil),
                },
                Some(b'*') => {
                    let Some(length) = length(&line)? else { return Ok(Value::Nil) };
                    if depth == DEEPEST {
                        return Err(unreadable("a list is too deep in others").into());
                    }
                    let mut items = Vec::new();
                    for _ in 0..length {
                        items.push(self.reply(depth + 1).await?);
                    }
                    Ok(Value::Array(items))
                }
                _ => redis::parse_redis_value(&line),
            }
        }
        .boxed()
    }

    /// The next line with its end.
    async fn line(&mut self) -> io::Result<Bytes> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.unread[seen..].iter().position(|byte| *byte == b'\n') {
                return Ok(self.unread.split_to(seen + at + 1).freeze());
            }
            seen = self.unread.len();
            if seen > LONGEST_LINE {
                return Err(unreadable("a line has no end"));
            }
            self.unread.reserve(BUFFER);
            let room = self.unread.capacity() - self.unread.len();
            if self.stream.read_buf(&mut (&mut self.unread).limit(room)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// So many bytes and the end of their line, read to where they stay.
    async fn bulk(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let whole = length.checked_add(2).ok_or_else(|| unreadable("a length is too large"))?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(whole).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let known = self.unread.len().min(whole);
        bytes.extend_from_slice(&self.unread[..known]);
        self.unread.advance(known);
        while bytes.len() < whole {
            let missing = whole - bytes.len();
            if self.stream.read_buf(&mut (&mut bytes).limit(missing)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// The number in a line that begins with its kind; `None` for that of nothing.
fn length(line: &[u8]) -> io::Result<Option<usize>> {
    let number = std::str::from_utf8(&line[1..]).ok().map(str::trim_end);
    match number {
        Some("-1") => Ok(None),
        number => number
            .and_then(|number| number.parse().ok())
            .map(Some)
            .ok_or_else(|| unreadable("a length is no number")),
    }
}

fn unreadable(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
