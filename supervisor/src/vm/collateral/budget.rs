//! How much of asking one VM may cause. Guests are hostile: one may bring evidence of as many machines as it can get hold of.
//! Each VM has a few inquiries in hand and gets one back now and then; machines that nobody has seen here draw from what the
//! whole host has, too. A machine whose quote once verified costs nothing: it is asked about when it is due.

use std::collections::BTreeMap;

/// An honest VM needs two inquiries when it starts, its machine's and its GPUs', and again when something is due.
const OF_A_VM: Rate = Rate { most: 4, each: 300 };
const OF_THE_HOST: Rate = Rate { most: 32, each: 120 };
/// VMs that are remembered; the one that asked longest ago makes room.
const MAX_VMS: usize = 256;

#[derive(Debug, Clone, Copy)]
struct Rate {
    most: u64,
    /// Seconds after which there is one more.
    each: u64,
}

#[derive(Debug, Clone, Copy)]
struct Purse {
    rate: Rate,
    spent: u64,
    /// When the last one came back.
    since: u64,
}

impl Purse {
    fn new(rate: Rate, now: u64) -> Self {
        Self { rate, spent: 0, since: now }
    }

    fn fill(&mut self, now: u64) {
        // A clock that was set back gives nothing, and takes nothing.
        let back = now.saturating_sub(self.since) / self.rate.each;
        self.spent = self.spent.saturating_sub(back);
        let whole = self.since.saturating_add(back.saturating_mul(self.rate.each));
        self.since = if self.spent == 0 { now } else { whole.min(now) };
    }

    fn has_one(&self) -> bool {
        self.spent < self.rate.most
    }
}

#[derive(Debug)]
pub(super) struct Budget {
    vms: BTreeMap<String, Purse>,
    host: Purse,
}

impl Budget {
    pub(super) fn new(now: u64) -> Self {
        Self { vms: BTreeMap::new(), host: Purse::new(OF_THE_HOST, now) }
    }

    /// Takes one inquiry, if there is one. `is_new`: about a machine that is not known here.
    pub(super) fn take(&mut self, vm: &str, is_new: bool, now: u64) -> bool {
        self.host.fill(now);
        let fresh = || Purse::new(OF_A_VM, now);
        let purse = self.vms.entry(vm.to_owned()).or_insert_with(fresh);
        purse.fill(now);
        let granted = purse.has_one() && (!is_new || self.host.has_one());
        if granted {
            purse.spent += 1;
            self.host.spent += u64::from(is_new);
        }
        while self.vms.len() > MAX_VMS {
            let oldest = self.vms.iter().min_by_key(|(_, it)| it.since).map(|(vm, _)| vm.clone());
            let Some(oldest) = oldest else { break };
            self.vms.remove(&oldest);
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vm_has_a_few_and_gets_them_back_one_by_one() {
        let mut budget = Budget::new(1000);
        let take = |budget: &mut Budget, vm: &str, now| {
            (0..99).filter(|_| budget.take(vm, false, now)).count()
        };
        assert_eq!(take(&mut budget, "a", 1000), 4);
        assert_eq!(take(&mut budget, "b", 1000), 4, "each for itself");
        assert_eq!(take(&mut budget, "a", 1299), 0);
        assert_eq!(take(&mut budget, "a", 1300), 1);
        assert_eq!(take(&mut budget, "a", 1899), 1, "nothing is lost on the way");
        assert_eq!(take(&mut budget, "a", 1900), 1);
        assert_eq!(take(&mut budget, "a", 1_000_000), 4);
        assert_eq!(take(&mut budget, "a", 5), 0, "the clock was set back");
        for vm in 0..1000 {
            budget.take(&vm.to_string(), false, 2_000_000 + vm);
        }
        assert_eq!(budget.vms.len(), MAX_VMS);
    }

    #[test]
    fn vms_that_come_and_go_share_what_the_host_has_for_new_machines() {
        let mut budget = Budget::new(0);
        let crowd = (0..1000).filter(|vm| budget.take(&vm.to_string(), true, 0)).count();
        assert_eq!(crowd, 32);
        assert!(
            budget.take("old", false, 0),
            "a known machine's GPUs are asked about all the same"
        );
        assert!(!budget.take("new", true, 119) && budget.take("new", true, 120));
    }
}
