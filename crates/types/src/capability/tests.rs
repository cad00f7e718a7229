use proptest::prelude::*;

use super::*;

fn card(memory_mib: Option<u32>, compute_capability_x10: Option<u16>) -> Gpu {
    Gpu {
        vendor: GpuVendor::Nvidia,
        model: "Tesla T4".to_owned(),
        memory_mib,
        compute_capability_x10,
        count: 1,
    }
}

fn machine(gpus: Vec<Gpu>) -> Capabilities {
    Capabilities {
        cpu: Cpu {
            cores: 8,
            model: "AMD EPYC 7B13".to_owned(),
        },
        memory_mib: 16_000,
        gpus,
        interpreters: vec![InstalledInterpreter {
            interpreter: Interpreter::Python3,
            version: "3.11.2".to_owned(),
        }],
        environments: false,
        region: Some("eu-north".to_owned()),
        labels: BTreeMap::from([("tier".to_owned(), "test".to_owned())]),
    }
}

const GPU: Requirements = Requirements {
    cpu_cores: 0,
    memory_mib: 0,
    gpu: true,
    vram_mib: 0,
    compute_capability_x10: 0,
};

#[test]
fn a_job_that_asks_for_a_gpu_finds_none_where_no_driver_speaks() {
    assert_eq!(machine(vec![]).satisfies(&GPU), Err(Shortfall::NoGpu));
    assert_eq!(
        machine(vec![card(None, None)]).satisfies(&GPU),
        Err(Shortfall::NoGpu)
    );
    assert_eq!(
        machine(vec![Gpu {
            count: 0,
            ..card(Some(15_360), Some(75))
        }])
        .satisfies(&GPU),
        Err(Shortfall::NoGpu)
    );
    assert_eq!(
        machine(vec![card(Some(15_360), Some(75))]).satisfies(&GPU),
        Ok(())
    );
    let memory_alone = Requirements {
        gpu: false,
        vram_mib: 1,
        ..GPU
    };
    assert_eq!(machine(vec![]).satisfies(&memory_alone), Err(Shortfall::NoGpu));
}

#[test]
fn one_card_has_to_meet_all_that_is_asked_of_a_card() {
    let big_old = card(Some(32_768), Some(70));
    let small_new = card(Some(8_192), Some(89));
    let needs = |vram_mib, compute_capability_x10| Requirements {
        vram_mib,
        compute_capability_x10,
        ..GPU
    };
    let both = machine(vec![big_old, small_new]);
    assert_eq!(both.satisfies(&needs(32_768, 70)), Ok(()));
    assert_eq!(both.satisfies(&needs(8_192, 89)), Ok(()));
    let refused = both.satisfies(&needs(16_384, 80));
    assert_eq!(
        refused,
        Err(Shortfall::Gpu {
            vram_mib: 16_384,
            compute_capability_x10: 80
        })
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "no GPU here has 16384 MiB and compute capability 8.0"
    );
    // unified memory that the driver reports as [N/A] is no memory that can be promised
    assert!(
        machine(vec![card(None, Some(121))])
            .satisfies(&needs(1, 0))
            .is_err()
    );
    assert_eq!(
        machine(vec![card(None, Some(121))]).satisfies(&needs(0, 90)),
        Ok(())
    );
}

#[test]
fn cores_and_memory_are_counted() {
    let needs = |cpu_cores, memory_mib| Requirements {
        cpu_cores,
        memory_mib,
        ..Requirements::default()
    };
    assert_eq!(machine(vec![]).satisfies(&needs(8, 16_000)), Ok(()));
    assert_eq!(
        machine(vec![]).satisfies(&needs(9, 0)),
        Err(Shortfall::Cores { needed: 9, there: 8 })
    );
    assert_eq!(
        machine(vec![]).satisfies(&needs(0, 16_001)),
        Err(Shortfall::Memory {
            needed: 16_001,
            there: 16_000
        })
    );
}

#[test]
fn the_json_is_canonical_and_small() {
    let json = machine(vec![card(Some(15_360), Some(75))]).to_json().unwrap();
    assert_eq!(
        json,
        r#"{"cpu":{"cores":8,"model":"AMD EPYC 7B13"},"gpus":[{"compute_capability_x10":75,"count":1,"memory_mib":15360,"model":"Tesla T4","vendor":"nvidia"}],"interpreters":[{"name":"python3","version":"3.11.2"}],"labels":{"tier":"test"},"memory_mib":16000,"region":"eu-north"}"#
    );
    assert_eq!(
        Capabilities::from_json(&json).unwrap(),
        machine(vec![card(Some(15_360), Some(75))])
    );
}

#[test]
fn reading_ignores_fields_of_later_versions_and_refuses_nonsense() {
    let later = r#"{"cpu":{"cores":2,"model":"x","isa":"avx9"},"memory_mib":512,"quantum":true}"#;
    assert_eq!(Capabilities::from_json(later).unwrap().cpu.cores, 2);
    assert!(matches!(
        Capabilities::from_json("{}"),
        Err(CapabilityError::Malformed(_))
    ));
    let long = Capabilities {
        region: Some("x".repeat(5000)),
        ..machine(vec![])
    };
    assert!(matches!(long.to_json(), Err(CapabilityError::TooLong { .. })));
    assert!(matches!(
        Capabilities::from_json(&" ".repeat(5000)),
        Err(CapabilityError::TooLong { length: 5000 })
    ));
}

proptest! {
    /// More of anything never makes a machine unfit.
    #[test]
    fn more_is_never_worse(
        cores in 0u16..64, memory in 0u32..1 << 20, gpu: bool, vram in 0u32..1 << 17, cc in 0u16..130,
        has_cores in 0u16..64, has_memory in 0u32..1 << 20, has_vram in 0u32..1 << 17, has_cc in 0u16..130,
        extra in 0u16..1000,
    ) {
        let needs = Requirements { cpu_cores: cores, memory_mib: memory, gpu, vram_mib: vram, compute_capability_x10: cc };
        let base = Capabilities {
            cpu: Cpu { cores: has_cores, model: String::new() },
            memory_mib: has_memory,
            gpus: vec![card(Some(has_vram), Some(has_cc))],
            ..Capabilities::default()
        };
        let mut more = base.clone();
        more.cpu.cores += extra;
        more.memory_mib += u32::from(extra);
        more.gpus.push(card(Some(has_vram + u32::from(extra)), Some(has_cc + extra)));
        if base.satisfies(&needs).is_ok() {
            prop_assert_eq!(more.satisfies(&needs), Ok(()));
        }
    }
}
