// What the machine offers: its GPUs, their driver and the runtime that this library was built with.
#pragma once

#include <string>
#include <vector>

namespace pyrad {

struct DeviceReport {
    bool built;                      // the CUDA kernels are part of this build
    int runtime_version;             // of the toolkit, as 1000 * major + 10 * minor; 0 if not built
    int driver_version;              // likewise, the newest that the installed driver supports; 0 without a driver
    std::vector<std::string> names;  // one a usable GPU
};

// Never throws for a missing driver or GPU: that is an answer, not an error.
DeviceReport device_report();

// Throws std::runtime_error with one helpful sentence where GPU `device` cannot be used.
void require_device(int device);

}  // namespace pyrad
