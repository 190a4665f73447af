// gRPC's interoperability cases with lossd's services, by gRPC's C++: interop ADDRESS. Prints a line for each case that holds.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include "grpc/health/v1/health.grpc.pb.h"
#include "lossd.grpc.pb.h"

namespace pb = lossd::v1;
using Context = grpc::ClientContext;
using Code = grpc::StatusCode;

const std::string special = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n";
const std::string shown =
    "no function named `??test with whitespace??and Unicode BMP \u263a and non-BMP \U0001f608??`";
const std::vector<int> sizes = {27182, 8, 1828, 45904};

const char *name = "";
std::shared_ptr<grpc::Channel> channel;
std::unique_ptr<pb::Evaluator::Stub> evaluator;

void hold(bool holds, const std::string &what) {
  if (holds) return;
  std::fprintf(stderr, "%s: %s\n", name, what.c_str());
  std::exit(1);
}

void ends(const grpc::Status &status, Code code, const std::string &text = "") {
  hold(status.error_code() == code, std::to_string(status.error_code()) + " " + status.error_message());
  if (!text.empty()) hold(status.error_message() == text, status.error_message());
}

void set_deadline(Context &context, int milliseconds = 20000) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(milliseconds));
}

pb::EvaluateRequest relu(const std::string &function, int count) {
  pb::EvaluateRequest request;
  request.set_function(function);
  request.set_id(count);
  pb::Tensor &tensor = *request.add_inputs();
  tensor.set_name("input");
  tensor.set_data_type(pb::FLOAT32);
  tensor.add_shape(count);
  std::vector<float> values(count);
  for (int index = 0; index < count; index++) values[index] = index % 100;
  tensor.set_data(values.data(), 4 * values.size());
  return request;
}

void answers(Context &context, int count) {
  set_deadline(context);
  pb::EvaluateRequest request = relu("relu", count);
  pb::EvaluateResponse response;
  ends(evaluator->Evaluate(&context, request, &response), Code::OK);
  hold(response.outputs(0).data() == request.inputs(0).data(), "another answer");
}

// All batches, then all answers; or one by one.
void stream(Context &context, bool one_by_one) {
  set_deadline(context);
  auto calls = evaluator->EvaluateStream(&context);
  pb::EvaluateResponse response;
  auto take = [&](std::size_t index) {
    hold(calls->Read(&response), "no answer");
    hold(response.id() == std::uint64_t(sizes[index]), "another batch");
  };
  for (std::size_t index = 0; index < sizes.size(); index++) {
    hold(calls->Write(relu(index == 0 ? "relu" : "", sizes[index])), "not written");
    if (one_by_one) take(index);
  }
  calls->WritesDone();
  for (std::size_t index = 0; index < sizes.size() && !one_by_one; index++) take(index);
  hold(calls->Read(&response) && response.summary().batches() == sizes.size(), "no summary");
  hold(!calls->Read(&response), "one more answer");
  ends(calls->Finish(), Code::OK);
}

// A method that no stub has.
grpc::Status call(const std::string &path) {
  Context context;
  set_deadline(context);
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  grpc::ByteBuffer answer;
  grpc::Status status;
  auto reader = stub.PrepareUnaryCall(&context, path, grpc::ByteBuffer(), &queue);
  reader->StartCall();
  reader->Finish(&answer, &status, &queue);
  void *tag;
  bool is_good;
  queue.Next(&tag, &is_good);
  return status;
}

const std::vector<std::pair<const char *, std::function<void(Context &)>>> cases = {
    {"empty_unary", [](Context &context) {
       pb::GetStatusResponse response;
       ends(pb::Daemon::NewStub(channel)->GetStatus(&context, {}, &response), Code::OK);
     }},
    {"large_unary", [](Context &context) { answers(context, 271828); }},
    {"client_streaming", [](Context &context) { stream(context, false); }},
    {"server_streaming", [](Context &context) {
       auto stub = grpc::health::v1::Health::NewStub(channel);
       auto watch = stub->Watch(&context, {});
       grpc::health::v1::HealthCheckResponse response;
       hold(watch->Read(&response), "no answer");
       hold(response.status() == grpc::health::v1::HealthCheckResponse::SERVING, "not serving");
       context.TryCancel();
       hold(!watch->Read(&response), "one more answer");
       ends(watch->Finish(), Code::CANCELLED);
     }},
    {"ping_pong", [](Context &context) { stream(context, true); }},
    {"empty_stream", [](Context &context) {
       auto calls = evaluator->EvaluateStream(&context);
       calls->WritesDone();
       pb::EvaluateResponse response;
       hold(!calls->Read(&response), "an answer");
       ends(calls->Finish(), Code::INVALID_ARGUMENT, "the stream ended before a request named a function");
     }},
    {"cancel_after_begin", [](Context &context) {
       auto calls = evaluator->EvaluateStream(&context);
       context.TryCancel();
       ends(calls->Finish(), Code::CANCELLED);
     }},
    {"cancel_after_first_response", [](Context &context) {
       auto calls = evaluator->EvaluateStream(&context);
       pb::EvaluateResponse response;
       hold(calls->Write(relu("relu", sizes[0])) && calls->Read(&response), "no answer");
       context.TryCancel();
       hold(!calls->Read(&response), "one more answer");
       ends(calls->Finish(), Code::CANCELLED);
     }},
    {"timeout_on_sleeping_server", [](Context &context) {
       set_deadline(context, 100);
       auto calls = evaluator->EvaluateStream(&context);
       pb::EvaluateResponse response;
       hold(calls->Write(relu("relu", sizes[0])) && calls->Read(&response), "no answer");
       // The daemon waits for another batch.
       hold(!calls->Read(&response), "one more answer");
       ends(calls->Finish(), Code::DEADLINE_EXCEEDED);
     }},
    {"special_status_message", [](Context &context) {
       pb::EvaluateResponse response;
       ends(evaluator->Evaluate(&context, relu(special, 1), &response), Code::NOT_FOUND, shown);
     }},
    {"status_code_and_message", [](Context &context) {
       pb::EvaluateResponse response;
       ends(evaluator->Evaluate(&context, relu("nothing", 1), &response), Code::NOT_FOUND,
            "no function named `nothing`");
       Context other;
       set_deadline(other);
       auto calls = evaluator->EvaluateStream(&other);
       calls->Write(relu("nothing", 1));
       hold(!calls->Read(&response), "an answer");
       ends(calls->Finish(), Code::NOT_FOUND, "batch 1: no function named `nothing`");
     }},
    {"unimplemented_method", [](Context &) {
       ends(call("/lossd.v1.Evaluator/Nothing"), Code::UNIMPLEMENTED,
            "no method named `/lossd.v1.Evaluator/Nothing`");
     }},
    {"unimplemented_service", [](Context &) {
       ends(call("/lossd.v1.Nothing/Evaluate"), Code::UNIMPLEMENTED,
            "no method named `/lossd.v1.Nothing/Evaluate`");
     }},
    {"custom_metadata", [](Context &context) {
       context.AddMetadata("x-lossd-test", "value");
       context.AddMetadata("x-lossd-test-bin", std::string("\0\n\xff", 3));
       answers(context, 10);
       Context other;
       set_deadline(other);
       other.AddMetadata("x-lossd-test-bin", std::string("\0\n\xff", 3));
       auto calls = evaluator->EvaluateStream(&other);
       pb::EvaluateRequest wrong = relu("", 1);
       wrong.set_id(7);
       wrong.mutable_inputs(0)->set_data("123");
       pb::EvaluateResponse response;
       hold(calls->Write(relu("relu", 1)) && calls->Write(wrong), "not written");
       hold(calls->Read(&response) && !calls->Read(&response), "another number of answers");
       ends(calls->Finish(), Code::INVALID_ARGUMENT);
       auto found = other.GetServerTrailingMetadata().find("lossd-batch-id");
       hold(found != other.GetServerTrailingMetadata().end() && found->second == "7", "no trailer");
     }},
    {"client_compressed_unary", [](Context &) {
       for (grpc_compression_algorithm how : {GRPC_COMPRESS_GZIP, GRPC_COMPRESS_DEFLATE}) {
         for (int count : {0, 1, 1000, 271828}) {
           Context other;
           other.set_compression_algorithm(how);
           answers(other, count);
         }
       }
     }},
    {"client_compressed_streaming", [](Context &context) {
       context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
       stream(context, false);
     }},
};

int main(int, char **arguments) {
  grpc::ChannelArguments options;
  options.SetMaxReceiveMessageSize(-1);
  channel = grpc::CreateCustomChannel(arguments[1], grpc::InsecureChannelCredentials(), options);
  evaluator = pb::Evaluator::NewStub(channel);
  for (const auto &[its_name, run] : cases) {
    name = its_name;
    Context context;
    set_deadline(context);
    run(context);
    std::printf("%s\n", name);
  }
}
