//! Values as public recordings of these cards show them, in the columns of our own query.

use super::*;

fn card(model: &str, memory_mib: Option<u32>, compute_capability_x10: Option<u16>, count: u16) -> Gpu {
    Gpu {
        vendor: GpuVendor::Nvidia,
        model: model.to_owned(),
        memory_mib,
        compute_capability_x10,
        count,
    }
}

#[test]
fn cards_of_several_generations() {
    let recorded = [
        (
            "Tesla T4, 15360, 7.5\n",
            card("Tesla T4", Some(15_360), Some(75), 1),
        ),
        (
            "NVIDIA A100-SXM4-40GB, 40960, 8.0\n",
            card("NVIDIA A100-SXM4-40GB", Some(40_960), Some(80), 1),
        ),
        (
            "NVIDIA A100 80GB PCIe, 81920, 8.0\n",
            card("NVIDIA A100 80GB PCIe", Some(81_920), Some(80), 1),
        ),
        (
            "NVIDIA GeForce RTX 3090, 24576, 8.6\n",
            card("NVIDIA GeForce RTX 3090", Some(24_576), Some(86), 1),
        ),
        (
            "NVIDIA H100 80GB HBM3, 81559, 9.0\n",
            card("NVIDIA H100 80GB HBM3", Some(81_559), Some(90), 1),
        ),
        (
            "NVIDIA GeForce RTX 5090, 32607, 12.0\n",
            card("NVIDIA GeForce RTX 5090", Some(32_607), Some(120), 1),
        ),
    ];
    for (text, expected) in recorded {
        assert_eq!(parse(text), [expected], "{text}");
    }
}

#[test]
fn equal_cards_are_counted_and_others_kept_apart() {
    let two_kinds = "NVIDIA TITAN V, 12288, 7.0\nNVIDIA RTX 5880 Ada Generation, 49140, 8.9\n";
    assert_eq!(
        parse(two_kinds),
        [
            card("NVIDIA TITAN V", Some(12_288), Some(70), 1),
            card("NVIDIA RTX 5880 Ada Generation", Some(49_140), Some(89), 1),
        ]
    );
    let eight = "NVIDIA H100 80GB HBM3, 81559, 9.0\n".repeat(8);
    assert_eq!(
        parse(&eight),
        [card("NVIDIA H100 80GB HBM3", Some(81_559), Some(90), 8)]
    );
}

#[test]
fn an_old_driver_knows_no_compute_capability() {
    assert_eq!(
        parse("Tesla K80, 11441\n"),
        [card("Tesla K80", Some(11_441), None, 1)]
    );
    assert_eq!(
        parse("GeForce RTX 2080, 7979 MiB\n"),
        [card("GeForce RTX 2080", Some(7_979), None, 1)]
    );
}

#[test]
fn a_field_that_the_driver_cannot_tell_is_left_out() {
    // unified memory, a module without the query, and a card that has fallen off the bus
    assert_eq!(
        parse("NVIDIA GB10, [N/A], 12.1\n"),
        [card("NVIDIA GB10", None, Some(121), 1)]
    );
    assert_eq!(
        parse("Quadro 600, [Not Supported], [N/A]\n"),
        [card("Quadro 600", None, None, 1)]
    );
    let lost = parse("NVIDIA A40, [GPU requires reset], [GPU requires reset]\n");
    assert_eq!(lost, [card("NVIDIA A40", None, None, 1)]);
    assert!(!lost[0].is_usable(), "a card without a working driver is none");
}

#[test]
fn a_driver_error_is_no_card() {
    let errors = [
        "",
        "No devices were found\n",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest \
         NVIDIA driver is installed and running.\n",
        "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.183\n",
        "Field \"compute_cap\" is not a valid field to query.\n",
        "Unable to determine the device handle for GPU 0000:0A:00.0: Unknown Error\n",
        "Unable to determine the device handle, GPU is lost, Reboot the system, please\n",
        "[Unknown Error], [Unknown Error], [Unknown Error]\n",
    ];
    for text in errors {
        assert_eq!(parse(text), [], "{text}");
    }
}
