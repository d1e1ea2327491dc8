//! Memory that a device has left.

use candle_core::Device;

/// Bytes that a GPU has free; `None` for a processor, and where the GPU does not tell.
pub fn free_device_bytes(device: &Device) -> Option<u64> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let (free, _) = device.cuda_stream().context().mem_get_info().ok()?;
            u64::try_from(free).ok()
        }
        _ => None,
    }
}
