//! A transaction of which Redis has the first commands before it is known how it ends.

use redis::{Pipeline, RedisError, Value};

use super::super::large_socket::LargeSocket;
use super::super::outage::is_outage;
use super::super::transaction::Transaction;
use super::{Connection, Live, TransportError};

/// What Redis says to a question; refusing one says nothing of the others.
type Answer = Result<Value, RedisError>;

/// One that has begun. Nothing is done if it is dropped.
pub(in crate::transport) struct Begun<'a> {
    connection: &'a Connection,
    action: &'static str,
    live: Live,
    opening: Transaction<'a>,
    /// Where Redis has the opening; else all goes over the common connection, at the end.
    socket: Option<LargeSocket>,
}

impl Connection {
    /// Asks, and sends how a transaction begins without waiting for the answers: a large value is
    /// on its way meanwhile.
    pub(in crate::transport) async fn begin<'a>(
        &'a self,
        action: &'static str,
        mut questions: Pipeline,
        opening: Transaction<'a>,
    ) -> Result<(Vec<Answer>, Begun<'a>), TransportError> {
        questions.ignore_errors();
        let live = self.acquire(action).await?;
        let asked = live.reply(self.ask(&live, &questions, &opening)).await;
        let (answers, socket) = self.conclude(action, &live, asked).await?;
        Ok((answers, Begun { connection: self, action, live, opening, socket }))
    }

    async fn ask(
        &self,
        live: &Live,
        questions: &Pipeline,
        opening: &Transaction<'_>,
    ) -> Result<(Vec<Answer>, Option<LargeSocket>), RedisError> {
        let (mut answers, socket): (Vec<Answer>, _) = if self.settings.has_large_sockets() {
            let mut socket = self.large_socket(live).await?;
            let answers = self.in_time(socket.begin(questions, opening)).await?;
            (answers.into_iter().map(Value::extract_error).collect(), Some(socket))
        } else {
            (questions.query_async(&mut live.connection.clone()).await?, None)
        };
        if let Some(outage) =
            answers.iter().position(|answer| answer.as_ref().is_err_and(is_outage))
        {
            answers.swap_remove(outage)?;
        }
        Ok((answers, socket))
    }
}

impl Begun<'_> {
    /// Has Redis do it all, the rest after what it has.
    pub(in crate::transport) async fn end(
        self,
        rest: &Transaction<'_>,
    ) -> Result<Vec<Value>, TransportError> {
        let Self { connection, action, live, opening, socket } = self;
        let ending = async {
            let Some(mut socket) = socket else {
                let mut whole = Transaction::default();
                whole.append(&opening);
                whole.append(rest);
                return whole.as_pipeline().query_async(&mut live.connection.clone()).await;
            };
            let replies = connection.in_time(socket.end(&opening, rest)).await?;
            live.large.keep(socket);
            Transaction::outcome(replies)
        };
        let done = live.reply(ending).await;
        connection.conclude(action, &live, done).await
    }
}
