//! The members of a group, and what they have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;

use super::Member;
use crate::{GroupEffects, Join, JoinReply, Now, Ticket};

/// The members of a group by id. Which protocols they have in common is counted as members come and go, as in Kafka's
/// `ClassicGroup`: a join then costs as much as the joining member has protocols, not as the group has.
#[derive(Debug, Default)]
pub(crate) struct Members {
    by_id: BTreeMap<String, Member>,
    /// The number of members that support each protocol.
    supporters: BTreeMap<String, usize>,
    /// The number of members whose join is not answered yet.
    joining: usize,
}

impl Deref for Members {
    type Target = BTreeMap<String, Member>;

    fn deref(&self) -> &Self::Target {
        &self.by_id
    }
}

impl FromIterator<Member> for Members {
    fn from_iter<I: IntoIterator<Item = Member>>(members: I) -> Self {
        let mut all = Self::default();
        for member in members {
            all.insert(member);
        }
        all
    }
}

impl Members {
    pub(super) fn insert(&mut self, member: Member) {
        self.remove(&member.id);
        self.count(&member);
        self.by_id.insert(member.id.clone(), member);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        self.discount(&member);
        Some(member)
    }

    /// A known member joins again.
    pub(super) fn rejoin(
        &mut self,
        join: &Join,
        ticket: Ticket<JoinReply>,
        effects: &mut GroupEffects,
    ) {
        if let Some(mut member) = self.remove(&join.member) {
            member.rejoin(join, ticket, effects);
            self.insert(member);
        }
    }

    /// Takes the ticket of a member's join, which is being answered, and returns when the member's session expires.
    pub(super) fn joined(
        &mut self,
        id: &str,
        now: Now,
    ) -> (Option<Ticket<JoinReply>>, Option<u64>) {
        let Some(member) = self.by_id.get_mut(id) else {
            return (None, None);
        };
        let ticket = member.joined(now);
        self.joining -= usize::from(ticket.is_some());
        (ticket, member.deadline())
    }

    /// A member, for changes that don't affect the counts kept here.
    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    /// All members, for changes that don't affect the counts kept here.
    pub(super) fn values_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.by_id.values_mut()
    }

    /// Whether every member waits for the answer to its join.
    pub(super) fn have_all_joined(&self) -> bool {
        self.joining == self.by_id.len()
    }

    /// Whether every member other than the joining one supports one of its protocols.
    pub(super) fn could_agree(&self, join: &Join) -> bool {
        let before = self.by_id.get(&join.member);
        let before: BTreeSet<&str> = before.into_iter().flat_map(Member::protocols).collect();
        let others = self.by_id.len() - usize::from(self.by_id.contains_key(&join.member));
        join.protocols.iter().any(|(name, _)| {
            let own = usize::from(before.contains(name.as_str()));
            self.supporters_of(name) - own == others
        })
    }

    /// The protocol that most members prefer among those that all members support. If several have as many votes, it
    /// is the first of them by name.
    pub(super) fn vote(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.by_id.values() {
            let all = self.by_id.len();
            let liked = member
                .protocols()
                .find(|name| self.supporters_of(name) == all);
            if let Some(name) = liked {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        let (name, _) = votes.into_iter().find(|(_, count)| *count == most)?;
        Some(name.to_owned())
    }

    fn supporters_of(&self, protocol: &str) -> usize {
        self.supporters.get(protocol).copied().unwrap_or(0)
    }

    fn count(&mut self, member: &Member) {
        self.joining += usize::from(member.is_joining());
        // a client may name a protocol twice
        let names: BTreeSet<&str> = member.protocols().collect();
        for name in names {
            match self.supporters.get_mut(name) {
                Some(count) => *count += 1,
                None => {
                    self.supporters.insert(name.to_owned(), 1);
                }
            }
        }
    }

    fn discount(&mut self, member: &Member) {
        self.joining -= usize::from(member.is_joining());
        let names: BTreeSet<&str> = member.protocols().collect();
        for name in names {
            if let Some(count) = self.supporters.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const NOW: Now = Now {
        monotonic_ms: 1,
        wall_ms: 1,
    };

    fn join(member: &str, protocols: impl IntoIterator<Item = String>) -> Join {
        let named = |name| (name, Bytes::new());
        Join {
            group: "g".to_owned(),
            member: member.to_owned(),
            fresh_member: String::new(),
            requires_id: false,
            client_id: String::new(),
            client_host: String::new(),
            session_timeout_ms: 1,
            rebalance_timeout_ms: 1,
            protocol_type: "consumer".to_owned(),
            protocols: protocols.into_iter().map(named).collect(),
        }
    }

    fn naming(member: &str, protocols: &[&str]) -> Join {
        join(member, protocols.iter().map(|name| (*name).to_owned()))
    }

    fn member(join: &Join) -> Member {
        Member::new(join.member.clone(), join, Ticket::new(1), NOW)
    }

    #[test]
    fn members_agree_on_what_all_support_also_as_they_come_and_go() {
        let mut members: Members = [naming("a", &["x", "y", "y"]), naming("b", &["y", "x"])]
            .iter()
            .map(member)
            .collect();
        assert_eq!(members.vote().as_deref(), Some("x"), "a tie: by name");
        let could = |members: &Members, one: &str, name| members.could_agree(&naming(one, &[name]));
        assert!(could(&members, "new", "y") && !could(&members, "new", "z"));
        members.rejoin(
            &naming("b", &["z", "y"]),
            Ticket::new(2),
            &mut GroupEffects::default(),
        );
        assert_eq!(members.vote().as_deref(), Some("y"));
        assert!(!could(&members, "new", "x"), "no other than a supports it");
        assert!(
            could(&members, "b", "x"),
            "its own earlier ones don't count"
        );
        members.remove("a").expect("is there");
        assert_eq!(members.vote().as_deref(), Some("z"));
        members.remove("b").expect("is there");
        assert!(members.vote().is_none() && could(&members, "new", "x"));
        assert!(members.supporters.is_empty());
    }

    #[test]
    fn what_waits_for_its_join_is_counted() {
        let mut members: Members = ["a", "b"]
            .map(|id| member(&naming(id, &["x"])))
            .into_iter()
            .collect();
        assert!(members.have_all_joined());
        assert_eq!(members.joined("a", NOW).0, Some(Ticket::new(1)));
        assert_eq!(members.joined("a", NOW).0, None);
        assert!(!members.have_all_joined());
        let mut effects = GroupEffects::default();
        members.rejoin(&naming("a", &["x"]), Ticket::new(2), &mut effects);
        members.rejoin(&naming("a", &["x"]), Ticket::new(3), &mut effects);
        assert!(members.have_all_joined());
        assert_eq!(effects.answers.len(), 1, "the earlier of two is dismissed");
        members.joined("b", NOW);
        members.remove("b");
        assert!(members.have_all_joined());
    }

    // comparing each name with each name of every list would take ten thousand million comparisons
    #[test]
    fn members_with_very_many_protocols_agree() {
        let names = || (0..100_000).map(|number| format!("p{number:06}"));
        let mut members = Members::default();
        let last = join("a", names().skip(99_999));
        members.insert(member(&join("b", names())));
        assert!(members.could_agree(&last) && members.could_agree(&join("b", names().rev())));
        members.insert(member(&join("a", names().rev())));
        assert_eq!(members.vote().as_deref(), Some("p000000"));
    }
}
