// The absence of CUDA, linked in place of the .cu files: every symbol that must work on a GPU throws one sentence.
#include <stdexcept>

#include "device.h"

namespace pyrad {

DeviceReport device_report() { return {false, 0, 0, {}}; }

void require_device(int /*device*/) {
    throw std::runtime_error(
        "this build of pyrad has no CUDA kernels; use device='cpu', or install a CUDA toolkit (nvcc) and rebuild with "
        "pip install -e . -C cmake.define.PYRAD_CUDA=ON");
}

}  // namespace pyrad
