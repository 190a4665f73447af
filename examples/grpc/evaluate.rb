# A loss and its gradient by gRPC, then the exact loss of a data set in batches. On Debian:
#
#     apt-get install ruby-grpc ruby-grpc-tools
#     protoc -I proto --ruby_out=. --grpc_out=. --plugin=protoc-gen-grpc="$(command -v grpc_ruby_plugin)" lossd.proto
#     ruby -I . evaluate.rb 127.0.0.1:5677        (or unix:/run/lossd/lossd.sock)

require 'grpc'
require 'lossd_services_pb'

LOGITS = [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]].freeze
LABELS = [0, 1].freeze

def tensors(logits, labels)
  [Lossd::V1::Tensor.new(name: 'input', data_type: :FLOAT32, shape: [logits.size, 3], data: logits.flatten.pack('e*')),
   Lossd::V1::Tensor.new(name: 'target', data_type: :INT64, shape: [labels.size], data: labels.pack('q<*'))]
end

def deadline
  Time.now + 5
end

# Messages of any size, where gRPC's own limit would be 4 MiB.
evaluator = Lossd::V1::Evaluator::Stub.new(
  ARGV[0], :this_channel_is_insecure, channel_args: { 'grpc.max_receive_message_length' => -1 })
outputs = %w[loss grad.input].map { |name| Lossd::V1::Output.new(name: name) }
response = evaluator.evaluate(
  Lossd::V1::EvaluateRequest.new(function: 'cross_entropy', inputs: tensors(LOGITS, LABELS), outputs: outputs),
  deadline: deadline)
loss, gradient = response.outputs.map { |output| output.data.unpack('e*') }
puts format('loss %.6f', loss[0])
puts "gradient #{gradient.map { |value| format('%.6f', value) }.join(' ')}"

# The first names the function; each brings a row.
batches = (0..1).map do |row|
  Lossd::V1::EvaluateRequest.new(
    function: row.zero? ? 'cross_entropy' : '', inputs: tensors([LOGITS[row]], [LABELS[row]]))
end
summary = evaluator.evaluate_stream(batches, deadline: deadline).to_a.last.summary
puts format('of %d rows %.6f', summary.rows, summary['values']['loss'])

begin
  evaluator.evaluate(Lossd::V1::EvaluateRequest.new(function: 'cross_entropi'), deadline: deadline)
rescue GRPC::NotFound => e
  puts "NOT_FOUND #{e.details}"
end
