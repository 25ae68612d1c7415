//! How many tasks may run at the same time, which can be changed while they run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most slots, as on the command line.
pub(crate) const MOST: usize = u16::MAX as usize;

/// How long slots that autoscaling has added stay unused before they go (Celery's
/// `AUTOSCALE_KEEPALIVE`).
const KEEPALIVE: Duration = Duration::from_secs(30);

/// The slots of one worker.
#[derive(Debug)]
pub(crate) struct Slots {
    semaphore: Arc<Semaphore>,
    size: Mutex<Size>,
}

#[derive(Debug)]
struct Size {
    slots: usize,
    /// Slots that are to go as soon as they are free.
    owed: usize,
    scaled: Option<Scaled>,
}

/// Between how many and how many slots a worker scales itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Autoscale {
    /// Slots at most.
    pub max: usize,
    /// Slots at least.
    pub min: usize,
}

#[derive(Debug)]
struct Scaled {
    range: Autoscale,
    /// When all slots were last busy.
    exhausted: Instant,
}

/// Slots cannot be changed so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a worker has 1 to {MOST} slots")]
pub(crate) struct OutOfRange;

impl Slots {
    /// So many slots; with `autoscale` its least.
    pub(crate) fn new(slots: usize, autoscale: Option<Autoscale>) -> Self {
        let slots = autoscale.map_or(slots, |range| range.min).clamp(1, MOST);
        let scaled = autoscale.map(|range| Scaled { range, exhausted: Instant::now() });
        Self {
            semaphore: Arc::new(Semaphore::new(slots)),
            size: Mutex::new(Size { slots, owed: 0, scaled }),
        }
    }

    /// One free slot at least, and all others that are free now.
    pub(crate) async fn free(&self) -> Vec<OwnedSemaphorePermit> {
        let mut free = Vec::new();
        loop {
            match Arc::clone(&self.semaphore).try_acquire_owned() {
                Ok(slot) => free.extend(self.keep(slot)),
                Err(_) if !free.is_empty() => return free,
                Err(_) => {
                    self.exhausted();
                    // The semaphore is never closed.
                    if let Ok(slot) = Arc::clone(&self.semaphore).acquire_owned().await {
                        free.extend(self.keep(slot));
                    }
                }
            }
        }
    }

    /// How many there are, or will be once those that are too many have ended what they run.
    pub(crate) fn count(&self) -> usize {
        self.size().slots
    }

    /// Between how many it scales itself.
    pub(crate) fn autoscale(&self) -> Option<Autoscale> {
        self.size().scaled.as_ref().map(|scaled| scaled.range)
    }

    /// Adds slots.
    pub(crate) fn grow(&self, by: usize) -> Result<usize, OutOfRange> {
        self.resize(|slots| slots.checked_add(by))
    }

    /// Takes slots away; a busy one goes when it is free.
    pub(crate) fn shrink(&self, by: usize) -> Result<usize, OutOfRange> {
        self.resize(|slots| slots.checked_sub(by))
    }

    /// Changes the range it scales itself within; `None` where it does not.
    pub(crate) fn set_autoscale(
        &self,
        max: Option<usize>,
        min: Option<usize>,
    ) -> Option<Result<Autoscale, OutOfRange>> {
        let mut size = self.size();
        let slots = size.slots;
        let scaled = size.scaled.as_mut()?;
        let max = max.unwrap_or(scaled.range.max);
        let range = Autoscale { max, min: min.unwrap_or(scaled.range.min) };
        if range.min < 1 || range.max > MOST || range.min > range.max {
            return Some(Err(OutOfRange));
        }
        scaled.range = range;
        self.set(&mut size, slots.clamp(range.min, range.max));
        Some(Ok(range))
    }

    /// Takes away what autoscaling has added and nobody has needed for a while. Never ends.
    pub(crate) async fn scale_down(&self) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1));
        loop {
            ticks.tick().await;
            self.scale_down_at(Instant::now());
        }
    }

    fn scale_down_at(&self, now: Instant) {
        let busy = self.size().slots.saturating_sub(self.semaphore.available_permits());
        let mut size = self.size();
        let Some(scaled) = &size.scaled else { return };
        let needed = (busy + 1).clamp(scaled.range.min, scaled.range.max);
        if now.saturating_duration_since(scaled.exhausted) > KEEPALIVE && needed < size.slots {
            log::info!("scaling down from {} slots to {needed}", size.slots);
            self.set(&mut size, needed);
        }
    }

    /// All slots are busy and one more would be of use.
    fn exhausted(&self) {
        let mut size = self.size();
        let slots = size.slots;
        let Some(scaled) = &mut size.scaled else { return };
        scaled.exhausted = Instant::now();
        if slots < scaled.range.max {
            log::info!("scaling up from {slots} slots to {}", slots + 1);
            self.set(&mut size, slots + 1);
        }
    }

    fn resize(&self, change: impl FnOnce(usize) -> Option<usize>) -> Result<usize, OutOfRange> {
        let mut size = self.size();
        let slots = change(size.slots).filter(|slots| (1..=MOST).contains(slots));
        let slots = slots.ok_or(OutOfRange)?;
        self.set(&mut size, slots);
        Ok(slots)
    }

    fn set(&self, size: &mut Size, slots: usize) {
        if slots > size.slots {
            let more = slots - size.slots;
            let kept = more.min(size.owed);
            size.owed -= kept;
            self.semaphore.add_permits(more - kept);
        } else {
            let fewer = size.slots - slots;
            size.owed += fewer - self.semaphore.forget_permits(fewer);
        }
        size.slots = slots;
    }

    /// The slot, unless it is one too many.
    fn keep(&self, slot: OwnedSemaphorePermit) -> Option<OwnedSemaphorePermit> {
        let mut size = self.size();
        if size.owed == 0 {
            return Some(slot);
        }
        size.owed -= 1;
        slot.forget();
        None
    }

    fn size(&self) -> MutexGuard<'_, Size> {
        self.size.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_busy_slot_that_is_too_many_goes_when_it_is_free() {
        let slots = Slots::new(3, None);
        let mut busy = slots.free().await;
        assert_eq!(busy.len(), 3);
        assert_eq!(slots.shrink(2), Ok(1));
        assert_eq!(slots.grow(1), Ok(2));

        busy.truncate(2);
        assert!(futures_util::poll!(std::pin::pin!(slots.free())).is_pending());
        busy.truncate(1);
        assert_eq!(slots.free().await.len(), 1);
        busy.clear();
        assert_eq!(slots.free().await.len(), 2);
    }

    #[tokio::test]
    async fn there_is_always_a_slot() {
        let slots = Slots::new(2, None);
        assert_eq!(slots.shrink(2), Err(OutOfRange));
        assert_eq!(slots.grow(MOST), Err(OutOfRange));
        assert_eq!(slots.count(), 2);
        assert_eq!(slots.free().await.len(), 2);
    }

    #[tokio::test]
    async fn a_worker_scales_itself_between_its_limits() {
        let slots = Slots::new(8, Some(Autoscale { max: 3, min: 1 }));
        let mut busy = Vec::new();
        for _ in 0..3 {
            busy.extend(slots.free().await);
        }
        assert!(futures_util::poll!(std::pin::pin!(slots.free())).is_pending());
        assert_eq!((busy.len(), slots.count()), (3, 3));

        busy.clear();
        slots.scale_down_at(Instant::now());
        assert_eq!(slots.count(), 3);
        slots.scale_down_at(Instant::now() + 2 * KEEPALIVE);
        assert_eq!((slots.count(), slots.free().await.len()), (1, 1));
    }
}
