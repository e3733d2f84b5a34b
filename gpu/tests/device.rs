//! What every device must do, run on the host double and on the first CUDA device where there is one.

#[path = "../../tests/src/ledger.rs"]
pub mod ledger;

use gpu::{
    CudaDevice, HostDevice,
    device::{Device, DeviceError},
};

#[test]
fn the_host_device_keeps_the_contract() {
    check(&HostDevice);
}

#[test]
fn the_first_cuda_device_keeps_the_contract() {
    if let Some(device) = ledger::need("gpu", CudaDevice::open(0)) {
        check(&device);
    }
}

fn check<D: Device>(device: &D) {
    bytes_come_back(device);
    ranges_outside_are_refused(device);
    impossible_sizes_are_refused(device);
}

fn bytes_come_back<D: Device>(device: &D) {
    let mut buffer = device.allocate(4096).expect("4 KiB");
    let mut back = [7; 4096];
    device
        .copy_out(&buffer, 0, &mut back)
        .expect("the whole buffer");
    assert_eq!(back, [0; 4096], "fresh memory is zero");
    let text: Vec<u8> = (0..200).collect();
    device.copy_in(&text, &mut buffer, 1000).expect("inside");
    device.synchronise().expect("a device that works");
    let mut back = [7; 202];
    device.copy_out(&buffer, 999, &mut back).expect("inside");
    assert_eq!((back[0], &back[1..201], back[201]), (0, &text[..], 0));
}

fn ranges_outside_are_refused<D: Device>(device: &D) {
    let mut buffer = device.allocate(100).expect("100 bytes");
    let outside = device.copy_in(&[1; 10], &mut buffer, 91);
    let expected = DeviceError::Range {
        offset: 91,
        end: 101,
        bytes: 100,
    };
    assert_eq!(outside, Err(expected));
    assert!(device.copy_out(&buffer, usize::MAX, &mut [0; 10]).is_err());
    assert_eq!(device.copy_in(&[], &mut buffer, 100), Ok(()));
}

fn impossible_sizes_are_refused<D: Device>(device: &D) {
    assert!(device.allocate(usize::MAX / 4).is_err());
}
