//! What the queue is told that a worker offers. Pure.

use sandrun_core::pool::Offer;
use sandrun_types::{Capabilities, Cpu, Gpu, GpuVendor, InstalledInterpreter, Interpreter};

use super::worker::Given;

/// Memory in MiB that a worker counts as having which nobody says anything about: what executors give one job at most,
/// unless they were told otherwise.
const SILENT_MEMORY: u32 = 2_048;

/// What a worker offers. Region and labels are what the list says; classes and environments what it says itself; of its
/// machine what the list says, else what it says itself, else next to nothing: a job that asks for more waits, and is
/// not run where nobody has said that it fits. Of its programs nobody says anything: it gets whatever is asked for, and
/// refuses what it can't do.
pub(super) fn offer(given: &Given) -> Offer {
    let installed = |interpreter| InstalledInterpreter {
        interpreter,
        version: String::new(),
    };
    let stated = given.place.hardware.unwrap_or_default();
    let said = given.hardware;
    let has_gpu = stated.gpu || stated.vram_mib.is_some() || stated.compute_capability_x10.is_some();
    let gpu = Gpu {
        vendor: GpuVendor::Nvidia,
        model: String::new(),
        // there is one, and perhaps nothing is known of it
        memory_mib: Some(stated.vram_mib.unwrap_or(0)),
        compute_capability_x10: stated.compute_capability_x10,
        count: 1,
    };
    let cores = stated.cpu_cores.or(said.map(|it| it.cpu_cores));
    let memory = stated.memory_mib.or(said.map(|it| it.memory_mib));
    Offer::Announced {
        capabilities: Box::new(Capabilities {
            environments: true,
            cpu: Cpu {
                cores: cores.unwrap_or(1),
                model: String::new(),
            },
            memory_mib: memory.unwrap_or(SILENT_MEMORY),
            gpus: has_gpu.then_some(gpu).into_iter().collect(),
            interpreters: Interpreter::PROGRAMS.into_iter().map(installed).collect(),
            region: given.place.region.clone(),
            labels: given.place.labels.clone(),
        }),
        features: ["bundle", "logs", "outputs"]
            .map(str::to_owned)
            .into_iter()
            .chain(given.features.iter().cloned())
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sandrun_core::pool::Needs;
    use sandrun_executor::wire::Hardware;
    use sandrun_types::Requirements;

    use super::super::allowlist::{Place, StatedHardware};
    use super::*;

    fn fits(said: Option<Hardware>, stated: Option<StatedHardware>, hardware: Requirements) -> bool {
        let given = Given {
            slots: 1,
            place: Place {
                hardware: stated,
                ..Place::default()
            },
            features: BTreeSet::new(),
            hardware: said,
        };
        offer(&given).meets(&Needs {
            hardware,
            ..Needs::default()
        })
    }

    #[test]
    fn a_worker_has_what_is_said_of_it() {
        let cores = |cpu_cores| Requirements {
            cpu_cores,
            ..Requirements::default()
        };
        let memory = |memory_mib| Requirements {
            memory_mib,
            ..Requirements::default()
        };
        let card = |vram_mib| Requirements {
            gpu: true,
            vram_mib,
            ..Requirements::default()
        };
        // nobody says anything: what any executor does, and no more
        assert!(fits(None, None, memory(2_048)) && !fits(None, None, memory(2_049)));
        assert!(fits(None, None, cores(1)) && !fits(None, None, cores(2)));
        assert!(!fits(None, None, card(0)));
        let said = Some(Hardware {
            cpu_cores: 8,
            memory_mib: 16_000,
        });
        assert!(fits(said, None, cores(8)) && !fits(said, None, cores(9)));
        assert!(fits(said, None, memory(16_000)) && !fits(said, None, memory(16_001)));
        assert!(!fits(said, None, card(0)));
        let stated = Some(StatedHardware {
            cpu_cores: Some(4),
            vram_mib: Some(24_000),
            ..StatedHardware::default()
        });
        assert!(fits(said, stated, cores(4)) && !fits(said, stated, cores(5)));
        assert!(fits(said, stated, card(24_000)) && !fits(said, stated, card(80_000)));
        assert!(fits(said, stated, memory(16_000)));
    }
}
