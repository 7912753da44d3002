// Where there is no libFuzzer: replays the files and folders it is given, each as it is and with a few thousand simple
// mutations of a fixed seed. The same targets, without the guidance.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
    const int mutations = argc > 1 ? std::atoi(argv[1]) : 0;
    std::mt19937 random(1);
    long runs = 0;
    for (int argument = 2; argument < argc; ++argument) {
        for (const auto& entry : std::filesystem::directory_iterator(argv[argument])) {
            std::ifstream file(entry.path(), std::ios::binary);
            const std::vector<uint8_t> seed{std::istreambuf_iterator<char>(file), {}};
            LLVMFuzzerTestOneInput(seed.data(), seed.size());
            ++runs;
            for (int i = 0; i < mutations && !seed.empty(); ++i, ++runs) {
                std::vector<uint8_t> bytes = seed;
                for (uint32_t edits = 1 + random() % 4; edits > 0; --edits) {
                    bytes[random() % bytes.size()] = static_cast<uint8_t>(random());
                }
                if (random() % 8 == 0) bytes.resize(random() % bytes.size());
                LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
            }
        }
    }
    std::printf("replayed %ld inputs\n", runs);
    return runs > 0 ? 0 : 1;
}
