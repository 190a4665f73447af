// A loss and its gradient by gRPC, then the exact loss of a data set in batches. On Debian:
//
//     apt-get install g++ pkg-config libgrpc++-dev protobuf-compiler-grpc
//     protoc -I proto --cpp_out=. --grpc_out=. --plugin=protoc-gen-grpc="$(command -v grpc_cpp_plugin)" lossd.proto
//     g++ -std=c++17 -I . -o evaluate evaluate.cc lossd.pb.cc lossd.grpc.pb.cc $(pkg-config --cflags --libs grpc++ protobuf)
//     ./evaluate 127.0.0.1:5677        (or unix:/run/lossd/lossd.sock)

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "lossd.grpc.pb.h"

namespace pb = lossd::v1;

const float logits[2][3] = {{2, 1, 0}, {0, 1, 2}};
const std::int64_t labels[2] = {0, 1};

void add(pb::EvaluateRequest &request, const char *name, pb::DataType type, std::vector<std::int64_t> shape,
         const void *data, std::size_t size) {
  pb::Tensor &tensor = *request.add_inputs();
  tensor.set_name(name);
  tensor.set_data_type(type);
  for (std::int64_t length : shape) tensor.add_shape(length);
  tensor.set_data(data, size);
}

void add_rows(pb::EvaluateRequest &request, int first, int count) {
  add(request, "input", pb::FLOAT32, {count, 3}, logits[first], count * sizeof logits[0]);
  add(request, "target", pb::INT64, {count}, labels + first, count * sizeof labels[0]);
}

void set_deadline(grpc::ClientContext &context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
}

int main(int, char **arguments) {
  grpc::ChannelArguments options;
  options.SetMaxReceiveMessageSize(-1);  // Messages of any size, where gRPC's own limit would be 4 MiB.
  auto evaluator = pb::Evaluator::NewStub(
      grpc::CreateCustomChannel(arguments[1], grpc::InsecureChannelCredentials(), options));
  {
    grpc::ClientContext context;
    set_deadline(context);
    pb::EvaluateRequest request;
    pb::EvaluateResponse response;
    request.set_function("cross_entropy");
    add_rows(request, 0, 2);
    request.add_outputs()->set_name("loss");
    request.add_outputs()->set_name("grad.input");
    grpc::Status status = evaluator->Evaluate(&context, request, &response);
    if (!status.ok()) {
      std::fprintf(stderr, "%s\n", status.error_message().c_str());
      return 1;
    }
    float loss, gradient[6];
    std::memcpy(&loss, response.outputs(0).data().data(), sizeof loss);
    std::memcpy(gradient, response.outputs(1).data().data(), sizeof gradient);
    std::printf("loss %.6f\ngradient", loss);
    for (float value : gradient) std::printf(" %.6f", value);
    std::printf("\n");
  }
  {
    grpc::ClientContext context;
    set_deadline(context);
    auto stream = evaluator->EvaluateStream(&context);
    for (int row = 0; row < 2; row++) {
      // The first names the function; each brings a row.
      pb::EvaluateRequest request;
      if (row == 0) request.set_function("cross_entropy");
      add_rows(request, row, 1);
      stream->Write(request);
    }
    stream->WritesDone();
    pb::EvaluateResponse response;
    while (stream->Read(&response)) continue;
    if (!stream->Finish().ok()) return 1;
    std::printf("of %d rows %.6f\n", int(response.summary().rows()), response.summary().values().at("loss"));
  }
  grpc::ClientContext context;
  set_deadline(context);
  pb::EvaluateRequest request;
  pb::EvaluateResponse response;
  request.set_function("cross_entropi");
  grpc::Status status = evaluator->Evaluate(&context, request, &response);
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) std::printf("NOT_FOUND %s\n", status.error_message().c_str());
}
