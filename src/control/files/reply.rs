//! Replies that several may want to give: the thread that does the work, and the one that watches the time. Exactly one of them
//! does. Must never answer twice, nor keep a writer waiting for ever.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use fuser::{Errno, ReplyAttr, ReplyEntry, ReplyOpen, ReplyWrite};

/// A reply that can be an error.
pub(super) trait Refuse: Send + 'static {
    /// Answers with an errno.
    fn refuse(self, errno: Errno);
}

macro_rules! refuse {
    ($($reply:ty),+) => {
        $(impl Refuse for $reply {
            fn refuse(self, errno: Errno) {
                self.error(errno);
            }
        })+
    };
}
refuse!(ReplyAttr, ReplyEntry, ReplyOpen, ReplyWrite);

/// A reply until somebody gives it. One that nobody gives is EIO when the last who could is gone.
#[derive(Debug)]
pub(super) struct Pending<R>(Mutex<Option<R>>);

impl<R> Pending<R> {
    pub(super) fn new(reply: R) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Some(reply))))
    }

    /// Whether nobody has answered yet.
    pub(super) fn is_open(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The reply, for the first who asks.
    pub(super) fn take(&self) -> Option<R> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl<R: Refuse> Pending<R> {
    /// Answers with an errno, if nobody has answered.
    pub(super) fn refuse(&self, errno: Errno) {
        if let Some(reply) = self.take() {
            reply.refuse(errno);
        }
    }
}

/// What is called for a reply that was not given in time, before it is refused.
type Late = Box<dyn Fn() + Send>;

struct Watched<R> {
    until: Instant,
    reply: Weak<Pending<R>>,
    late: Late,
}

struct State<R> {
    /// In the order of their time, as all get the same.
    watched: VecDeque<Watched<R>>,
    ended: bool,
}

type Guarded<R> = (Mutex<State<R>>, Condvar);

/// Refuses writes with ETIMEDOUT that take too long, since nothing else could end the wait of the process that writes.
pub(super) struct Watch<R> {
    state: Arc<Guarded<R>>,
    time: Duration,
}

impl<R: Refuse> Watch<R> {
    /// A watch that gives each reply this long.
    pub(super) fn start(time: Duration) -> std::io::Result<Self> {
        let state = Arc::new((Mutex::new(State { watched: VecDeque::new(), ended: false }), Condvar::new()));
        let shared = Arc::clone(&state);
        std::thread::Builder::new().name("control-watch".into()).spawn(move || watch(&shared))?;
        Ok(Self { state, time })
    }

    /// Watches one more reply.
    pub(super) fn add(&self, reply: &Arc<Pending<R>>, late: impl Fn() + Send + 'static) {
        let (state, changed) = &*self.state;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that were given: what is left is bounded by the queue of the verbs.
        state.watched.retain(|watched| watched.reply.strong_count() > 0);
        let until = Instant::now() + self.time;
        state.watched.push_back(Watched { until, reply: Arc::downgrade(reply), late: Box::new(late) });
        changed.notify_one();
    }
}

impl<R> Drop for Watch<R> {
    fn drop(&mut self) {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.state.1.notify_one();
    }
}

fn watch<R: Refuse>((state, changed): &Guarded<R>) {
    let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
    while !guard.ended {
        let now = Instant::now();
        let due = guard.watched.front().map(|watched| watched.until.saturating_duration_since(now));
        guard = match due {
            None => changed.wait(guard).unwrap_or_else(PoisonError::into_inner),
            Some(Duration::ZERO) => {
                let Some(watched) = guard.watched.pop_front() else { continue };
                drop(guard);
                if let Some(reply) = watched.reply.upgrade().and_then(|pending| pending.take()) {
                    (watched.late)();
                    reply.refuse(Errno::ETIMEDOUT);
                }
                state.lock().unwrap_or_else(PoisonError::into_inner)
            }
            Some(time) => changed.wait_timeout(guard, time).unwrap_or_else(PoisonError::into_inner).0,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    struct Told(Sender<i32>);

    impl Refuse for Told {
        fn refuse(self, errno: Errno) {
            self.0.send(errno.code()).unwrap();
        }
    }

    fn told() -> (Arc<Pending<Told>>, Receiver<i32>) {
        let (sender, receiver) = channel();
        (Pending::new(Told(sender)), receiver)
    }

    #[test]
    fn a_reply_that_is_late_is_refused_once_and_the_others_are_left_alone() {
        let watch = Watch::start(Duration::from_millis(20)).unwrap();
        let (given, of_given) = told();
        watch.add(&given, || panic!("it was given in time"));
        given.refuse(Errno::EBUSY);
        let (late, of_late) = told();
        let (noted, is_noted) = channel();
        watch.add(&late, move || noted.send(()).unwrap());
        assert_eq!(of_late.recv(), Ok(nix::libc::ETIMEDOUT));
        assert!(is_noted.try_recv().is_ok(), "it is noted before it is answered");
        assert!(!late.is_open());
        late.refuse(Errno::EIO);
        // Both senders are gone: each got one answer and no more.
        assert_eq!(of_given.iter().collect::<Vec<_>>(), [nix::libc::EBUSY]);
        assert_eq!(of_late.iter().count(), 0);
    }

    #[test]
    fn a_reply_nobody_holds_any_more_is_forgotten() {
        let watch = Watch::start(Duration::from_secs(3600)).unwrap();
        for _ in 0..1000 {
            let (gone, _) = told();
            watch.add(&gone, || {});
        }
        assert!(watch.state.0.lock().unwrap().watched.len() <= 2);
    }
}
