//! Cards that the PCI bus shows: the fallback where no `nvidia-smi` speaks, and the only source for AMD and Intel.
//!
//! A model is named from the system's `pci.ids` where there is one, else by its PCI id. Memory comes from the driver's
//! own file (`mem_info_vram_total` of amdgpu); without it the card is listed, but not usable.

use std::fs;
use std::path::Path;

use sandrun_types::{Gpu, GpuVendor};

/// Where the kernel lists the devices.
pub(super) const DEVICES: &str = "/sys/bus/pci/devices";
const NAMES: [&str; 3] = [
    "/usr/share/misc/pci.ids",
    "/usr/share/hwdata/pci.ids",
    "/usr/share/pci.ids",
];
/// PCI base class of display controllers, which compute cards (3D controller, 0302) belong to as well; AMD's Instinct
/// and others are processing accelerators.
const DISPLAY: u32 = 0x03;
const ACCELERATOR: u32 = 0x12;
const MIB: u64 = 1024 * 1024;

/// Reads every device in `folder`.
pub(super) fn scan(folder: &Path) -> Vec<Gpu> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    let mut found: Vec<(GpuVendor, u32, Option<u32>)> =
        paths.iter().filter_map(|path| device(path)).collect();
    found.sort();
    if found.is_empty() {
        return Vec::new();
    }
    let names = NAMES
        .iter()
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_default();
    let mut cards: Vec<Gpu> = Vec::new();
    for (vendor, id, memory_mib) in found {
        let model =
            name(&names, vendor, id).unwrap_or_else(|| format!("PCI {:04x}:{id:04x}", pci_vendor(vendor)));
        match cards.last_mut() {
            Some(last) if last.vendor == vendor && last.model == model && last.memory_mib == memory_mib => {
                last.count = last.count.saturating_add(1);
            }
            Some(_) | None => {
                cards.push(Gpu {
                    vendor,
                    model,
                    memory_mib,
                    compute_capability_x10: None,
                    count: 1,
                });
            }
        }
    }
    cards
}

/// What the driver told wins over what the bus shows of the same maker.
pub(super) fn merge(told: Vec<Gpu>, mut seen: Vec<Gpu>) -> Vec<Gpu> {
    seen.retain(|card| told.iter().all(|other| other.vendor != card.vendor));
    told.into_iter().chain(seen).collect()
}

fn device(path: &Path) -> Option<(GpuVendor, u32, Option<u32>)> {
    let word = |name: &str| hex(&fs::read_to_string(path.join(name)).ok()?);
    let base_class = word("class")? >> 16;
    if base_class != DISPLAY && base_class != ACCELERATOR {
        return None;
    }
    let vendor = match word("vendor")? {
        0x10de => GpuVendor::Nvidia,
        0x1002 => GpuVendor::Amd,
        0x8086 => GpuVendor::Intel,
        // the screens of virtual machines and servers' management chips
        _ => return None,
    };
    let memory = fs::read_to_string(path.join("mem_info_vram_total")).ok();
    let memory_mib = memory
        .and_then(|text| text.trim().parse::<u64>().ok())
        .and_then(|bytes| u32::try_from(bytes / MIB).ok())
        .filter(|mib| *mib > 0);
    Some((vendor, word("device")?, memory_mib))
}

const fn pci_vendor(vendor: GpuVendor) -> u32 {
    match vendor {
        GpuVendor::Nvidia => 0x10de,
        GpuVendor::Amd => 0x1002,
        GpuVendor::Intel => 0x8086,
    }
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.trim().strip_prefix("0x")?, 16).ok()
}

/// Looks a device up in the text of `pci.ids`: vendors at the line's start, their devices after one tab.
fn name(ids: &str, vendor: GpuVendor, device: u32) -> Option<String> {
    let vendor_line = format!("{:04x}  ", pci_vendor(vendor));
    let device_line = format!("\t{device:04x}  ");
    let mut lines = ids.lines().skip_while(|line| !line.starts_with(&vendor_line));
    lines.next()?;
    let model = lines
        .take_while(|line| line.starts_with('\t') || line.starts_with('#') || line.is_empty())
        .find_map(|line| line.strip_prefix(&device_line))?;
    Some(format!("{vendor} {}", model.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, address: &str, files: &[(&str, &str)]) {
        fs::create_dir_all(root.join(address)).unwrap();
        for (name, text) in files {
            fs::write(root.join(address).join(name), text).unwrap();
        }
    }

    #[test]
    fn cards_are_told_from_other_devices() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let nvidia = [
            ("vendor", "0x10de\n"),
            ("device", "0x2330\n"),
            ("class", "0x030200\n"),
        ];
        put(root, "0000:05:00.0", &nvidia);
        put(root, "0000:06:00.0", &nvidia);
        // its sound, a management chip's screen, a virtual screen
        put(
            root,
            "0000:05:00.1",
            &[
                ("vendor", "0x10de\n"),
                ("device", "0x1aef\n"),
                ("class", "0x040300\n"),
            ],
        );
        put(
            root,
            "0000:02:00.0",
            &[
                ("vendor", "0x1a03\n"),
                ("device", "0x2000\n"),
                ("class", "0x030000\n"),
            ],
        );
        put(
            root,
            "0000:00:02.0",
            &[
                ("vendor", "0x1af4\n"),
                ("device", "0x1050\n"),
                ("class", "0x030000\n"),
            ],
        );
        let amd = [
            ("vendor", "0x1002\n"),
            ("device", "0x744c\n"),
            ("class", "0x030000\n"),
            ("mem_info_vram_total", "25753026560\n"),
        ];
        put(root, "0000:0a:00.0", &amd);
        put(root, "0000:00:1f.0", &[("class", "garbage")]);

        let cards = scan(root);
        assert_eq!(cards.len(), 2, "{cards:?}");
        assert_eq!(
            (cards[0].vendor, cards[0].count, cards[0].is_usable()),
            (GpuVendor::Nvidia, 2, false)
        );
        assert_eq!(
            (cards[1].vendor, cards[1].memory_mib),
            (GpuVendor::Amd, Some(24_560))
        );
        assert!(cards[1].is_usable());

        let told = vec![Gpu {
            memory_mib: Some(81_559),
            ..cards[0].clone()
        }];
        let merged = merge(told.clone(), cards.clone());
        assert_eq!(merged, [told[0].clone(), cards[1].clone()]);
        assert_eq!(scan(Path::new("/does/not/exist")), []);
    }

    #[test]
    fn models_are_named_by_the_systems_list() {
        let ids = "1002  Advanced Micro Devices\n\t744c  Navi 31 [Radeon RX 7900 XT]\n\t\t1002 0e3b  XTX\n# c\n\
                   10de  NVIDIA Corporation\n\t2330  GH100 [H100 SXM5 80GB]\n";
        assert_eq!(
            name(ids, GpuVendor::Nvidia, 0x2330).as_deref(),
            Some("NVIDIA GH100 [H100 SXM5 80GB]")
        );
        assert_eq!(
            name(ids, GpuVendor::Amd, 0x744c).as_deref(),
            Some("AMD Navi 31 [Radeon RX 7900 XT]")
        );
        assert_eq!(name(ids, GpuVendor::Amd, 0x2330), None);
        assert_eq!(name(ids, GpuVendor::Intel, 0x2330), None);
    }
}
