//! The names that a pickle of plain data refers to, and what each makes of its arguments.

use chrono::{LocalResult, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone};
use chrono_tz::{Tz, TzOffset};
use uuid::Uuid;

use super::{Id, Node, malformed};
use crate::wire::isoformat::{UtcOffset, WallTime};
use crate::wire::serializer::SerializerError;
use crate::wire::typed_json::{self, TypedValue};

/// A name that plain data needs. There is no other way to a name than [`Global::find`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    DateTime,
    Date,
    Time,
    TimeDelta,
    TimeZone,
    ZoneInfo,
    /// `ZoneInfo._unpickle`, which is referred to through `getattr`.
    ZoneOfKey,
    GetAttr,
    Decimal,
    Uuid,
    OrderedDict,
    Set,
    FrozenSet,
    ByteArray,
    /// How protocols below 3 write bytes.
    Encode,
    Bytes,
    /// How protocols below 2 write objects.
    Reconstructor,
    Object,
    /// `celery.canvas.signature`: a mapping that knows that it is a signature.
    Signature,
}

const KNOWN: [(Global, &str, &str); 23] = [
    (Global::DateTime, "datetime", "datetime"),
    (Global::Date, "datetime", "date"),
    (Global::Time, "datetime", "time"),
    (Global::TimeDelta, "datetime", "timedelta"),
    (Global::TimeZone, "datetime", "timezone"),
    (Global::ZoneInfo, "zoneinfo", "ZoneInfo"),
    (Global::GetAttr, "builtins", "getattr"),
    (Global::GetAttr, "__builtin__", "getattr"),
    (Global::Decimal, "decimal", "Decimal"),
    (Global::Uuid, "uuid", "UUID"),
    (Global::OrderedDict, "collections", "OrderedDict"),
    (Global::Set, "builtins", "set"),
    (Global::Set, "__builtin__", "set"),
    (Global::FrozenSet, "builtins", "frozenset"),
    (Global::FrozenSet, "__builtin__", "frozenset"),
    (Global::ByteArray, "builtins", "bytearray"),
    (Global::Encode, "_codecs", "encode"),
    (Global::Bytes, "__builtin__", "bytes"),
    (Global::Reconstructor, "copyreg", "_reconstructor"),
    (Global::Reconstructor, "copy_reg", "_reconstructor"),
    (Global::Object, "builtins", "object"),
    (Global::Object, "__builtin__", "object"),
    (Global::Signature, "celery.canvas", "signature"),
];

impl Global {
    /// The name, if it is one of plain data; an error that names it otherwise.
    pub(super) fn find(module: &str, name: &str) -> Result<Self, SerializerError> {
        KNOWN
            .iter()
            .find(|(_, known_module, known)| (*known_module, *known) == (module, name))
            .map(|(global, ..)| *global)
            .ok_or_else(|| {
                let name: String = format!("{module}.{name}").chars().take(100).collect();
                SerializerError::Forbidden { name: name.escape_debug().to_string() }
            })
    }

    /// Module and name as Python 3 has them.
    pub(super) fn name(self) -> String {
        KNOWN
            .iter()
            .find(|(global, ..)| *global == self)
            .map(|(_, module, name)| format!("{module}.{name}"))
            .unwrap_or_default()
    }

    /// What Python makes of these arguments.
    pub(super) fn call(self, arguments: &[&Node]) -> Result<Node, SerializerError> {
        let made = match (self, arguments) {
            // The one attribute that plain data takes.
            (Self::GetAttr, [Node::Global(Self::ZoneInfo), Node::Text(name)])
                if **name == *"_unpickle" =>
            {
                Some(Node::Global(Self::ZoneOfKey))
            }
            (Self::GetAttr, _) => {
                return Err(SerializerError::Forbidden { name: self.name() });
            }
            (Self::ZoneOfKey, [Node::Text(key), _]) => key.parse().ok().map(Node::ZoneInfo),
            (Self::DateTime, [Node::Bytes(packed), zone @ ..]) => {
                date_time(packed, zone).map(|time| typed(TypedValue::DateTime(time)))
            }
            (Self::Date, [Node::Bytes(packed)]) => {
                date(packed).map(|date| typed(TypedValue::Date(date)))
            }
            (Self::Time, [Node::Bytes(packed), zone @ ..]) => time(packed)
                .zip(offset(zone, None))
                .map(|(time, offset)| typed(TypedValue::Time(time, offset))),
            (
                Self::TimeDelta,
                [Node::Integer(days), Node::Integer(seconds), Node::Integer(micros)],
            ) => time_delta([days.as_i64(), seconds.as_i64(), micros.as_i64()]),
            (
                Self::TimeZone,
                [Node::TimeDelta(ahead)] | [Node::TimeDelta(ahead), Node::Text(_)],
            ) => UtcOffset::new(*ahead).map(Node::TimeZone),
            (Self::Decimal, [Node::Text(text)]) => typed_json::is_decimal(text)
                .then(|| typed(TypedValue::Decimal(text.as_ref().to_owned()))),
            (Self::OrderedDict, []) => Some(Node::Mapping(Vec::new())),
            (Self::Set, _) => Some(Node::Foreign("a set")),
            (Self::FrozenSet, _) => Some(Node::Foreign("a frozenset")),
            (Self::ByteArray, _) => Some(Node::Foreign("a bytearray")),
            (Self::Encode, [Node::Text(text), Node::Text(codec)]) if **codec == *"latin1" => {
                latin1(text).map(Node::Bytes)
            }
            (Self::Bytes, []) => Some(Node::Bytes(Box::default())),
            (
                Self::Reconstructor,
                [Node::Global(Self::Uuid), Node::Global(Self::Object), Node::None],
            ) => Some(Node::UuidToBe),
            _ => None,
        };
        made.ok_or_else(|| {
            malformed(format!("{} is made in another way than Python makes it", self.name()))
        })
    }
}

/// What the object is once it has its state.
pub(super) fn build(nodes: &[Node], object: &Node, state: &Node) -> Result<Node, SerializerError> {
    let (Node::UuidToBe, Node::Mapping(state)) = (object, state) else {
        return Err(malformed("a state is given to what has none"));
    };
    let number = state.iter().find_map(|(key, value): &(Id, Id)| {
        match (&nodes[*key as usize], &nodes[*value as usize]) {
            (Node::Text(key), Node::Integer(number)) if **key == *"int" && !number.is_negative => {
                Some(number.magnitude)
            }
            _ => None,
        }
    });
    number
        .map(|number| typed(TypedValue::Uuid(Uuid::from_u128(number))))
        .ok_or_else(|| malformed("a uuid.UUID has no int"))
}

fn typed(value: TypedValue) -> Node {
    Node::Typed(Box::new(value))
}

/// Year in two bytes, month, day, hour, minute, second, microsecond in three; the month's highest
/// bit says that it is the second of two equal times when clocks go back.
fn date_time(packed: &[u8], zone: &[&Node]) -> Option<WallTime> {
    let (day, clock) = packed.split_first_chunk::<4>()?;
    let [high, low, month, day] = *day;
    let local = NaiveDateTime::new(date(&[high, low, month & 0x7f, day])?, time(clock)?);
    let moment = Moment { local, is_second: month & 0x80 != 0 };
    Some(WallTime { local, offset: offset(zone, Some(moment))? })
}

fn date(packed: &[u8]) -> Option<NaiveDate> {
    let [high, low, month, day] = *packed else { return None };
    let year = u16::from_be_bytes([high, low]);
    NaiveDate::from_ymd_opt(year.into(), month.into(), day.into())
        .filter(|_| (1..=9999).contains(&year))
}

/// Hour, minute, second, microsecond in three bytes; the hour's highest bit is as the month's.
fn time(packed: &[u8]) -> Option<NaiveTime> {
    let [hour, minute, second, high, middle, low] = *packed else { return None };
    let micros = u32::from_be_bytes([0, high, middle, low]);
    NaiveTime::from_hms_micro_opt((hour & 0x7f).into(), minute.into(), second.into(), micros)
        .filter(|_| micros < 1_000_000)
}

/// The offset that a time zone stands for; a time without one has none.
#[allow(clippy::option_option, reason = "a wrong zone is not the same as none")]
fn offset(zone: &[&Node], moment: Option<Moment>) -> Option<Option<UtcOffset>> {
    match (zone, moment) {
        ([] | [Node::None], _) => Some(None),
        ([Node::TimeZone(offset)], _) => Some(Some(*offset)),
        // Without a day, only a zone without rules has an offset.
        ([Node::ZoneInfo(Tz::UTC)], None) => Some(UtcOffset::new(TimeDelta::zero())),
        ([Node::ZoneInfo(_)], None) => Some(None),
        ([Node::ZoneInfo(zone)], Some(moment)) => {
            let ahead = moment.offset_in(*zone)?.fix().local_minus_utc();
            Some(UtcOffset::new(TimeDelta::seconds(ahead.into())))
        }
        _ => None,
    }
}

/// What clocks show, and whether for the second time that day because they were put back.
#[derive(Clone, Copy)]
struct Moment {
    local: NaiveDateTime,
    is_second: bool,
}

impl Moment {
    /// As `zoneinfo` has it: in the hour that clocks leave out, the offset of before, or of after
    /// for the second.
    fn offset_in(self, zone: Tz) -> Option<TzOffset> {
        let at = |local| zone.offset_from_local_datetime(&local);
        match at(self.local) {
            LocalResult::Single(offset) => Some(offset),
            LocalResult::Ambiguous(first, second) => {
                Some(if self.is_second { second } else { first })
            }
            LocalResult::None if self.is_second => {
                at(self.local.checked_add_signed(TimeDelta::days(1))?).latest()
            }
            LocalResult::None => at(self.local.checked_sub_signed(TimeDelta::days(1))?).earliest(),
        }
    }
}

fn time_delta(parts: [Option<i64>; 3]) -> Option<Node> {
    let [days, seconds, micros] = parts;
    let delta = TimeDelta::try_days(days?)?
        .checked_add(&TimeDelta::try_seconds(seconds?)?)?
        .checked_add(&TimeDelta::microseconds(micros?))?;
    Some(Node::TimeDelta(delta))
}

fn latin1(text: &str) -> Option<Box<[u8]>> {
    text.chars().map(|character| u8::try_from(u32::from(character)).ok()).collect()
}
