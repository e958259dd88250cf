// stable-diffusion.cpp's side of bench/beside-sd-cpp.ts: holds the transformer of a file, or one product of ggml, and answers each command on stdin with a
// line of JSON (see ../peer.ts). Built by the commands in ../README.md.
//   peer blocks FILE SIDE TEXT THREADS          a target and a reference of SIDE² pixels, TEXT tokens
//   peer product TYPE ROWS COLUMNS TOKENS THREADS
#include <sys/resource.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "ggml-backend.h"
#include "model.h"
#include "qwen_image.hpp"
#include "stable-diffusion.h"

namespace {

struct Seconds {
    double wall;
    double processor;
};

double processorSeconds() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto of = [](const timeval& time) { return time.tv_sec + time.tv_usec / 1e6; };
    return of(usage.ru_utime) + of(usage.ru_stime);
}

long peakBytes() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss * 1024;
}

Seconds timed(const std::function<void()>& action) {
    const auto start = std::chrono::steady_clock::now();
    const double before = processorSeconds();
    action();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start;
    return {wall.count(), processorSeconds() - before};
}

std::vector<float> noise(size_t count, float scale, unsigned seed) {
    std::mt19937 generator(seed);
    std::normal_distribution<float> normal(0.0f, scale);
    std::vector<float> numbers(count);
    for (float& number : numbers) number = normal(generator);
    return numbers;
}

void answer(const Seconds& opened, const std::function<void()>& run) {
    for (std::string question; std::getline(std::cin, question);) {
        if (question == "open") {
            std::printf("{\"graph\":0,\"session\":%f,\"nodes\":0,\"modelBytes\":0}\n", opened.wall);
        } else if (question == "run") {
            const Seconds taken = timed(run);
            std::printf("{\"seconds\":%f,\"processor\":%f}\n", taken.wall, taken.processor);
        } else {
            std::printf("{\"bytes\":%ld}\n", peakBytes());
        }
        std::fflush(stdout);
    }
}

void runBlocks(const std::string& file, int64_t side, int64_t text, int threads) {
    ggml_backend_t backend = ggml_backend_cpu_init();
    std::shared_ptr<Qwen::QwenImageRunner> runner;
    const Seconds opened = timed([&] {
        ModelLoader loader;
        if (!loader.init_from_file_and_convert_name(file, "model.diffusion_model.")) throw std::runtime_error("cannot read " + file);
        runner = std::make_shared<Qwen::QwenImageRunner>(backend, false, loader.get_tensor_storage_map(), "model.diffusion_model",
                                                         VERSION_QWEN_IMAGE);
        runner->alloc_params_buffer();
        std::map<std::string, ggml_tensor*> tensors;
        runner->get_param_tensors(tensors, "model.diffusion_model");
        if (!loader.load_tensors(tensors)) throw std::runtime_error("cannot load " + file);
    });
    const int64_t cells = side / 8;
    const auto latent = [&](unsigned seed) {
        return sd::Tensor<float>({cells, cells, 16, 1}, noise(cells * cells * 16, 1.0f, seed));
    };
    const sd::Tensor<float> x = latent(1);
    const std::vector<sd::Tensor<float>> references{latent(2)};
    const sd::Tensor<float> context({3584, text, 1}, noise(3584 * text, 1.0f, 3));
    const sd::Tensor<float> timesteps = sd::Tensor<float>::from_vector({750.0f});
    answer(opened, [&] {
        if (runner->compute(threads, x, timesteps, context, references, false).empty()) throw std::runtime_error("no result");
    });
}

ggml_type typeNamed(const std::string& name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type += 1)
        if (ggml_type_name(static_cast<ggml_type>(type)) && name == ggml_type_name(static_cast<ggml_type>(type)))
            return static_cast<ggml_type>(type);
    throw std::runtime_error("no type " + name);
}

// Root mean square of the differences from the product in double precision with the numbers that the weights stand for, of some elements.
double errorOf(ggml_type type, ggml_tensor* weight, const std::vector<float>& x, const std::vector<float>& y) {
    const int64_t columns = weight->ne[0], rows = weight->ne[1];
    std::vector<char> stored(ggml_row_size(type, columns));
    std::vector<float> row(columns);
    double differences = 0, squares = 0;
    for (int64_t each = 0; each < rows; each += rows / 64) {
        ggml_backend_tensor_get(weight, stored.data(), each * stored.size(), stored.size());
        if (type == GGML_TYPE_F32)
            std::memcpy(row.data(), stored.data(), stored.size());
        else
            ggml_get_type_traits(type)->to_float(stored.data(), row.data(), columns);
        for (int64_t token = 0; token < 16; token += 1) {
            double sum = 0;
            for (int64_t at = 0; at < columns; at += 1) sum += static_cast<double>(row[at]) * x[token * columns + at];
            const double found = y[token * rows + each];
            differences += (found - sum) * (found - sum);
            squares += sum * sum;
        }
    }
    return std::sqrt(differences / squares);
}

void runProduct(const std::string& name, int64_t rows, int64_t columns, int64_t tokens, int threads) {
    const ggml_type type = typeNamed(name);
    ggml_backend_t backend = ggml_backend_cpu_init();
    ggml_backend_cpu_set_n_threads(backend, threads);
    ggml_context* context = ggml_init({ggml_tensor_overhead() * 16 + ggml_graph_overhead(), nullptr, true});
    ggml_tensor* weight = ggml_new_tensor_2d(context, type, columns, rows);
    ggml_tensor* input = ggml_new_tensor_2d(context, GGML_TYPE_F32, columns, tokens);
    ggml_tensor* output = ggml_mul_mat(context, weight, input);
    ggml_cgraph* graph = ggml_new_graph(context);
    ggml_build_forward_expand(graph, output);
    ggml_backend_alloc_ctx_tensors(context, backend);
    const std::vector<float> numbers = noise(rows * columns, 0.02f, 1), x = noise(columns * tokens, 1.0f, 2);
    std::vector<char> stored(ggml_nbytes(weight));
    ggml_quantize_chunk(type, numbers.data(), stored.data(), 0, rows, columns, nullptr);
    ggml_backend_tensor_set(weight, stored.data(), 0, stored.size());
    ggml_backend_tensor_set(input, x.data(), 0, x.size() * sizeof(float));
    ggml_backend_graph_compute(backend, graph);
    std::vector<float> y(rows * tokens);
    ggml_backend_tensor_get(output, y.data(), 0, y.size() * sizeof(float));
    std::fprintf(stderr, "%s: root mean square error %.2e\n", name.c_str(), errorOf(type, weight, x, y));
    answer({}, [&] { ggml_backend_graph_compute(backend, graph); });
}

}  // namespace

int main(int count, char** words) {
    const std::vector<std::string> given(words + 1, words + count);
    // Else stdout has a bar among the answers.
    sd_set_progress_callback([](int, int, float, void*) {}, nullptr);
    try {
        if (given.size() == 5 && given[0] == "blocks")
            runBlocks(given[1], std::stoll(given[2]), std::stoll(given[3]), std::stoi(given[4]));
        else if (given.size() == 6 && given[0] == "product")
            runProduct(given[1], std::stoll(given[2]), std::stoll(given[3]), std::stoll(given[4]), std::stoi(given[5]));
        else
            throw std::runtime_error("usage: peer blocks FILE SIDE TEXT THREADS | peer product TYPE ROWS COLUMNS TOKENS THREADS");
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
    return 0;
}
