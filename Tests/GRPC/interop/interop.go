// gRPC's interoperability cases with lossd's services, by grpc-go: interop ADDRESS. Prints a line for each case that holds.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"reflect"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"lossd/pb"
)

const special = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n"
const shown = "no function named `??test with whitespace??and Unicode BMP ☺ and non-BMP 😈??`"

var sizes = []int{27182, 8, 1828, 45904}
var connection *grpc.ClientConn
var evaluator pb.EvaluatorClient

func relu(function string, count int) *pb.EvaluateRequest {
	data := make([]byte, 4*count)
	for i := 0; i < count; i++ {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(i%100)))
	}
	return &pb.EvaluateRequest{Function: function, Id: uint64(count), Inputs: []*pb.Tensor{{
		Name: "input", DataType: pb.DataType_FLOAT32, Shape: []int64{int64(count)}, Storage: &pb.Tensor_Data{Data: data}}}}
}

func good(err error) {
	if err != nil {
		log.Panic(err)
	}
}

func same(found, expected interface{}) {
	if !reflect.DeepEqual(found, expected) {
		log.Panicf("found %v, expected %v", found, expected)
	}
}

func ends(err error, code codes.Code, text string) {
	same(status.Code(err), code)
	if text != "" {
		same(status.Convert(err).Message(), text)
	}
}

func answers(ctx context.Context, count int, options ...grpc.CallOption) {
	asked := relu("relu", count)
	answer, err := evaluator.Evaluate(ctx, asked, options...)
	good(err)
	same(answer.Outputs[0].GetData(), asked.Inputs[0].GetData())
}

func stream(ctx context.Context, options ...grpc.CallOption) pb.Evaluator_EvaluateStreamClient {
	made, err := evaluator.EvaluateStream(ctx, options...)
	good(err)
	return made
}

func send(calls pb.Evaluator_EvaluateStreamClient, index int) {
	function := ""
	if index == 0 {
		function = "relu"
	}
	good(calls.Send(relu(function, sizes[index])))
}

// All batches, then all answers.
func allAtOnce(ctx context.Context, options ...grpc.CallOption) {
	calls := stream(ctx, options...)
	for index := range sizes {
		send(calls, index)
	}
	good(calls.CloseSend())
	for index := range sizes {
		answer, err := calls.Recv()
		good(err)
		same(answer.Id, uint64(sizes[index]))
	}
	answer, err := calls.Recv()
	good(err)
	same(answer.Summary.Batches, uint64(len(sizes)))
	_, err = calls.Recv()
	same(err, io.EOF)
}

var cases = []struct {
	name string
	run  func(context.Context)
}{
	{"empty_unary", func(ctx context.Context) {
		_, err := pb.NewDaemonClient(connection).GetStatus(ctx, &pb.GetStatusRequest{})
		good(err)
	}},
	{"large_unary", func(ctx context.Context) { answers(ctx, 271828) }},
	{"client_streaming", func(ctx context.Context) { allAtOnce(ctx) }},
	{"server_streaming", func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		watch, err := health.NewHealthClient(connection).Watch(ctx, &health.HealthCheckRequest{})
		good(err)
		answer, err := watch.Recv()
		good(err)
		same(answer.Status, health.HealthCheckResponse_SERVING)
		cancel()
		_, err = watch.Recv()
		ends(err, codes.Canceled, "")
	}},
	{"ping_pong", func(ctx context.Context) {
		calls := stream(ctx)
		for index := range sizes {
			send(calls, index)
			answer, err := calls.Recv()
			good(err)
			same(answer.Id, uint64(sizes[index]))
		}
		good(calls.CloseSend())
		answer, err := calls.Recv()
		good(err)
		same(answer.Summary.Batches, uint64(len(sizes)))
		_, err = calls.Recv()
		same(err, io.EOF)
	}},
	{"empty_stream", func(ctx context.Context) {
		calls := stream(ctx)
		good(calls.CloseSend())
		_, err := calls.Recv()
		ends(err, codes.InvalidArgument, "the stream ended before a request named a function")
	}},
	{"cancel_after_begin", func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		calls := stream(ctx)
		cancel()
		_, err := calls.Recv()
		ends(err, codes.Canceled, "")
	}},
	{"cancel_after_first_response", func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		calls := stream(ctx)
		send(calls, 0)
		_, err := calls.Recv()
		good(err)
		cancel()
		_, err = calls.Recv()
		ends(err, codes.Canceled, "")
	}},
	{"timeout_on_sleeping_server", func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		calls := stream(ctx)
		send(calls, 0)
		_, err := calls.Recv()
		good(err)
		// The daemon waits for another batch.
		_, err = calls.Recv()
		ends(err, codes.DeadlineExceeded, "")
	}},
	{"special_status_message", func(ctx context.Context) {
		_, err := evaluator.Evaluate(ctx, relu(special, 1))
		ends(err, codes.NotFound, shown)
	}},
	{"status_code_and_message", func(ctx context.Context) {
		_, err := evaluator.Evaluate(ctx, relu("nothing", 1))
		ends(err, codes.NotFound, "no function named `nothing`")
		calls := stream(ctx)
		good(calls.Send(relu("nothing", 1)))
		_, err = calls.Recv()
		ends(err, codes.NotFound, "batch 1: no function named `nothing`")
	}},
	{"unimplemented_method", func(ctx context.Context) {
		err := connection.Invoke(ctx, "/lossd.v1.Evaluator/Nothing", relu("", 0), &pb.EvaluateResponse{})
		ends(err, codes.Unimplemented, "no method named `/lossd.v1.Evaluator/Nothing`")
	}},
	{"unimplemented_service", func(ctx context.Context) {
		err := connection.Invoke(ctx, "/lossd.v1.Nothing/Evaluate", relu("", 0), &pb.EvaluateResponse{})
		ends(err, codes.Unimplemented, "no method named `/lossd.v1.Nothing/Evaluate`")
	}},
	{"custom_metadata", func(ctx context.Context) {
		ctx = metadata.AppendToOutgoingContext(ctx, "x-lossd-test", "value", "x-lossd-test-bin", "\x00\n\xff")
		answers(ctx, 10)
		calls := stream(ctx)
		send(calls, 0)
		wrong := relu("", 1)
		wrong.Id, wrong.Inputs[0].Storage = 7, &pb.Tensor_Data{Data: []byte("123")}
		good(calls.Send(wrong))
		_, err := calls.Recv()
		good(err)
		_, err = calls.Recv()
		same(status.Code(err), codes.InvalidArgument)
		same(calls.Trailer().Get("lossd-batch-id"), []string{"7"})
	}},
	{"client_compressed_unary", func(ctx context.Context) {
		for _, count := range []int{0, 1, 1000, 271828} {
			answers(ctx, count, grpc.UseCompressor(gzip.Name))
		}
	}},
	{"client_compressed_streaming", func(ctx context.Context) { allAtOnce(ctx, grpc.UseCompressor(gzip.Name)) }},
}

func main() {
	made, err := grpc.Dial(os.Args[1], grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	good(err)
	connection, evaluator = made, pb.NewEvaluatorClient(made)
	for _, item := range cases {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		log.SetPrefix(item.name + ": ")
		item.run(ctx)
		cancel()
		fmt.Println(item.name)
	}
	good(connection.Close())
}
