//! What a socket's token lets it see while it is open: told in time, renewed, looked at again. Owns the consequences for
//! its subscriptions; what is allowed is the policies' to say.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::delivery::access::auth::Identity;
use crate::delivery::conversation::catch_up::{Former, JoinFailed, SubscribeOptions};
use crate::delivery::conversation::session::Session;
use crate::delivery::conversation::token_lease::LeaseDue;
use crate::delivery::fanout::hub::{JoinError, Subscription};
use crate::delivery::scope::view_key::ViewKey;
use crate::delivery::socket::writer::CancelFlag;
use crate::delivery::wire::frame::CloseCode;
use crate::delivery::wire::protocol;
use crate::incarnations::Gap;

/// After so many seconds a token from an address that forges may be looked at again, if it lets that be.
const FORGED_PAUSE: f64 = 5.0;

impl Session {
    /// Ready when the client had to be told something of its token.
    pub(super) fn poll_pass(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pass) = &mut self.pass else { return Poll::Pending };
        if self.writer.is_ending() {
            return Poll::Pending;
        }
        match ready!(pass.poll_due(context)) {
            LeaseDue::Expiring => {
                let seconds = pass.remaining().unwrap_or_default().as_secs();
                self.writer.say(&protocol::token_expiring(seconds));
            }
            LeaseDue::Expired => self.writer.close(CloseCode::Unauthenticated, "the token has expired"),
            LeaseDue::Nobody if self.subscriptions.is_empty() => match self.pending {
                None => self.writer.close(CloseCode::Unauthenticated, "neither a token nor a subscription came"),
                // it may come to nothing
                Some(_) => pass.look_again(),
            },
            LeaseDue::Nobody | LeaseDue::Nothing => {}
        }
        Poll::Ready(())
    }

    pub(super) fn who(&self) -> Option<Arc<Identity>> {
        self.pass.as_ref().map(|pass| pass.who().clone())
    }

    pub(super) fn authenticate(&mut self, token: &str, reference: Option<&Value>) {
        let Some(pass) = &mut self.pass else {
            let text = "this server checks no tokens: every channel is open";
            return self.refuse(&protocol::error("not_supported", text, reference));
        };
        if self.share.shares().is_suspect(self.share.address()) {
            self.hub.metrics().count_limit("forged");
            return self.refuse(&protocol::rate_limited(FORGED_PAUSE, reference));
        }
        if let Err(reason) = pass.renew(token) {
            if reason.is_forged() {
                self.share.shares().suspect(self.share.address());
            }
            if let Some(unlogged) = self.hub.metrics().refuse("token") {
                tracing::warn!(event = "auth_refused", %reason, unlogged);
            }
            return self.refuse(&protocol::error("unauthenticated", reason.0, reference));
        }
        let who = pass.who().clone();
        // also one that came without a token counts for its user from now on
        if let Err(what) = self.share.belongs_to(who.user.as_ref()) {
            self.hub.metrics().count_limit(what.limit);
            return self.writer.close(CloseCode::Overloaded, what.reason);
        }
        self.share.is_known();
        self.inbound.allow(self.limits.message_bytes);
        let seconds = pass.remaining().map(|remaining| remaining.as_secs());
        self.hub.keepalive().belongs_to(self.standing, who.user.clone());
        // it may have been revoked since it was checked, when this socket was not among those that were told
        self.look_at_revocation();
        if self.writer.is_ending() {
            return;
        }
        self.writer.say(&protocol::authenticated(who.user.as_deref(), &who.role, seconds, reference));
        self.reconsider();
    }

    /// Some of its user's tokens were revoked, maybe this one.
    pub(super) fn look_at_revocation(&self) {
        if self.hub.keys().zip(self.who().as_ref()).is_some_and(|(keys, who)| keys.is_revoked(who)) {
            self.writer.close(CloseCode::Unauthenticated, "the token was revoked");
        }
    }

    /// What the token may see has changed, or may have: each subscription goes on, goes on with another part of its
    /// channel, or ends.
    pub(super) fn reconsider(&mut self) {
        self.call_off_pages();
        // what these show is judged by the rules of before
        let mut pending = self.pending.take();
        let tell = |asked: &ViewKey| self.tell_of_rights(asked);
        let called_off = pending.as_mut().map(|pending| pending.call_off_regrants(tell)).unwrap_or_default();
        self.pending = pending;
        let who = self.who();
        let is_allowed = |asked: &ViewKey, permitted: Option<&ViewKey>| match self.hub.permit(asked, who.as_deref()) {
            Ok(now) => permitted == Some(&now),
            // it waits itself until that is known
            Err(error) => error == JoinError::InDoubt && permitted.is_none_or(ViewKey::has_members),
        };
        if self.pending.as_ref().is_some_and(|pending| !pending.may_go_on(is_allowed)) {
            // what is on its way cannot turn
            return self
                .writer
                .close(CloseCode::RightsChanged, "your rights changed meanwhile: resume with your last cursor");
        }
        self.turn();
        called_off.into_iter().for_each(|asked| self.join(asked, SubscribeOptions::default(), None));
    }

    fn tell_of_rights(&self, asked: &ViewKey) {
        self.hub.metrics().count_gap(Gap::Policy.as_str());
        self.writer.say(&protocol::gap(&asked.label(), Gap::Policy));
    }

    /// What its pages on their way show is another part now.
    fn call_off_pages(&mut self) {
        let called_off = self.unanswered.as_mut().map(|unanswered| unanswered.pages.call_off());
        for reference in called_off.into_iter().flatten() {
            let text = "your rights changed meanwhile: ask again";
            self.refuse(&protocol::error("unanswered", text, reference.as_ref()));
        }
    }

    /// What its holder has of claims is known again, and may be something else: what waited goes on.
    pub(super) fn settle(&mut self) {
        self.turn();
        self.hub.release(self.who().as_deref(), &self.writer, &self.subscriptions);
    }

    /// Where its client may be told what it gains and loses, as nothing but what its holder has of claims is another: its turn.
    fn regrant_turn(
        &self,
        subscription: &Subscription,
        permitted: &Result<ViewKey, JoinError>,
    ) -> Option<OwnedSemaphorePermit> {
        let is_regrant = subscription.key().has_members()
            && permitted.as_ref().map_or(true, |now| now.is_but_for_members(subscription.key()))
            && self.hub.shown_by(subscription, self.who().as_deref()).is_some();
        is_regrant.then(|| self.hub.regrant_turn()).flatten()
    }

    /// Each subscription goes on, goes on with another part of its channel, or ends.
    fn turn(&mut self) {
        let who = self.who();
        let had_some = !self.subscriptions.is_empty();
        let (mut turned, mut regranted) = (Vec::new(), Vec::new());
        for subscription in std::mem::take(&mut self.subscriptions) {
            let asked = subscription.key().asked();
            let is_of_now = self.hub.is_of_this_epoch(&subscription, who.as_deref());
            match self.hub.permit(&asked, who.as_deref()) {
                Ok(key) if key == *subscription.key() && is_of_now => self.subscriptions.push(subscription),
                Err(JoinError::NotLive) => self.subscriptions.push(subscription),
                // it is held until then
                Err(JoinError::InDoubt) if subscription.key().has_members() && is_of_now => {
                    self.subscriptions.push(subscription);
                }
                permitted @ (Ok(_) | Err(JoinError::InDoubt)) => {
                    if let Some(turn) = self.regrant_turn(&subscription, &permitted) {
                        regranted.push((Former::of(subscription, turn), asked, permitted.ok()));
                        continue;
                    }
                    // before it leaves: at a cut that came in between, the client would take what it has for what the table is
                    self.tell_of_rights(&asked);
                    drop(subscription);
                    turned.push(asked);
                }
                Err(error) => {
                    drop(subscription);
                    let (code, text) = JoinFailed::from(error).explain(&asked);
                    self.refuse(&protocol::channel_error(code, &text, &asked.label()));
                }
            }
        }
        if !turned.is_empty() || !regranted.is_empty() {
            self.call_off_pages();
        }
        for (former, asked, permitted) in regranted {
            let cancel = CancelFlag::default();
            let way = self.way_to(asked.clone(), None, cancel.clone());
            let pending = self.pending.get_or_insert_default();
            pending.send_instead(former, way, asked, permitted, cancel);
        }
        // when all others are there again: a limit that one meets closes a socket that has nothing else
        for asked in turned {
            self.join(asked, SubscribeOptions::default(), None);
        }
        if had_some && self.subscriptions.is_empty() && self.pending.is_none() {
            self.writer.close(CloseCode::Forbidden, "the token no longer allows what this socket is for");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::num::NonZeroU32;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use jsonwebtoken::{EncodingKey, Header, encode};
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;
    use tokio::task::yield_now;
    use tokio::time::timeout;

    use super::*;
    use crate::change::Event;
    use crate::delivery::access::auth::{Key, Keys, Rules};
    use crate::delivery::access::shares::Most;
    use crate::delivery::conversation::session::Limits;
    use crate::delivery::fanout::hub::{Hub, Settings, Source};
    use crate::delivery::socket::writer::{DueCache, SocketWriter};
    use crate::delivery::wire::frame::push_close_frame;
    use crate::shutdown;
    use crate::tasks::Tasks;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// The hub tells the sockets of a user of a revocation. One that brings a token of that user is not among them while the token
    /// is checked, and has to look itself.
    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_token_that_is_revoked_while_it_is_taken_lets_nobody_in() {
        let keys = Arc::new(Keys::new(vec![Key::secret("s3cret")], Rules::default(), true));
        let most = Most { strangers_per_address: 1, ..Most::default() };
        let settings = Settings { keys: Some(keys.clone()), most, ..Settings::for_tests() };
        let source = Source { requests: mpsc::channel(1).0, membership: mpsc::channel(1).0, feedback: Arc::default() };
        let hub = Hub::new(settings, source, Arc::default());
        let (events, told) = mpsc::channel(1);
        let (trigger, ends) = shutdown::channel();
        let mut running = Tasks::default();
        hub.start(&mut running, told, &ends);

        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (ours, mut client) = UnixStream::pair().unwrap();
        let writer = Arc::new(SocketWriter::new(ours, Arc::default()));
        let mut share = Box::new(hub.shares().enter(here).unwrap());
        share.is_stranger().unwrap();
        let limits = Limits { message_bytes: 1024, subscriptions: 1, commands_per_second: NonZeroU32::MIN };
        let nobody = Some(Arc::new(Identity::anonymous()));
        let mut session = Session::new(hub.clone(), writer, Vec::new(), limits, nobody, share, false);
        let claims = serde_json::json!({ "sub": "7", "exp": 4_000_000_000_u64 });
        let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(b"s3cret")).unwrap();

        // somebody looks through the sockets for as long as this test wants: the session waits before it says whose its own is
        let (neighbours, _neighbour) = UnixStream::pair().unwrap();
        let neighbours = Arc::new(SocketWriter::new(neighbours, Arc::default()));
        hub.keepalive().enter(&neighbours, Some("8".into()), here);
        let (tell, looks) = std::sync::mpsc::channel();
        let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
        let looked_through = hub.clone();
        let looking = std::thread::spawn(move || {
            looked_through.keepalive().of_users(|_| tell.send(()).is_ok() && goes_on.recv().is_ok())
        });
        looks.recv().unwrap();

        let brought = token.clone();
        let authenticating = tokio::task::spawn_blocking(move || {
            session.authenticate(&brought, None);
            session
        });
        // whose token was found to be good is no stranger, and leaves its place to another one
        let is_checked = async {
            while hub.shares().enter(here).unwrap().is_stranger().is_err() {
                yield_now().await;
            }
        };
        timeout(PATIENCE, is_checked).await.expect("the token is good so far");
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64;
        events.send(Event::Revoked { user: "7".into(), at }).await.unwrap();
        let is_revoked = async {
            while keys.verify(&token).is_ok() {
                yield_now().await;
            }
        };
        timeout(PATIENCE, is_revoked).await.expect("revoked before anybody is told");
        go_on.send(()).unwrap();
        looking.join().unwrap();
        let session = authenticating.await.unwrap();
        session.writer.flush(&mut DueCache::default());
        drop(session);

        let mut wire = Vec::new();
        client.read_to_end(&mut wire).await.unwrap();
        let mut goodbye = Vec::new();
        push_close_frame(&mut goodbye, CloseCode::Unauthenticated, "the token was revoked");
        // but for pings: the ring may have come by
        const PING: &[u8] = &[0x89, 0];
        let mut said = &wire[..];
        while let Some(rest) = said.strip_prefix(PING) {
            said = rest;
        }
        assert_eq!(said, goodbye, "nothing else is said: {}", String::from_utf8_lossy(&wire));
        trigger.begin();
        running.finish().await;
    }
}
