// The machine's GPUs, asked through the CUDA runtime.
#include <cuda_runtime_api.h>

#include <stdexcept>

#include "device.h"

namespace pyrad {

DeviceReport device_report() {
    DeviceReport report{true, CUDART_VERSION, 0, {}};
    int count = 0;
    if (cudaDriverGetVersion(&report.driver_version) != cudaSuccess) report.driver_version = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        cudaGetLastError();  // no driver or no GPU: clear the runtime's memory of it
        return report;
    }
    for (int device = 0; device < count; ++device) {
        cudaDeviceProp properties;
        if (cudaGetDeviceProperties(&properties, device) == cudaSuccess) report.names.emplace_back(properties.name);
    }
    return report;
}

void require_device(int device) {
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    if (error != cudaSuccess) {
        cudaGetLastError();
        throw std::runtime_error(std::string("no GPU can be used: ") + cudaGetErrorString(error) +
                                 "; use device='cpu', or check the driver with nvidia-smi");
    }
    if (device < 0 || device >= count) {
        throw std::runtime_error("there is no GPU " + std::to_string(device) + "; this machine has " +
                                 std::to_string(count) + ", counted from 0");
    }
}

}  // namespace pyrad
