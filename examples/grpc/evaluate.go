// A loss and its gradient by gRPC, then the exact loss of a data set in batches. With Debian's packages:
//
//	apt-get install golang-go golang-google-grpc-dev golang-goprotobuf-dev protobuf-compiler protoc-gen-go-grpc
//	mkdir -p src/lossd/pb
//	protoc -I proto --go_out=src/lossd/pb --go_opt=paths=source_relative,import_path=lossd/pb \
//	  --go-grpc_out=src/lossd/pb --go-grpc_opt=paths=source_relative,Mlossd.proto=lossd/pb lossd.proto
//	GO111MODULE=off GOPATH=$PWD:/usr/share/gocode go run evaluate.go 127.0.0.1:5677        (or unix:///run/lossd/lossd.sock)
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"lossd/pb"
)

var logits = [][]float32{{2, 1, 0}, {0, 1, 2}}
var labels = []int64{0, 1}

func data(values ...interface{}) []byte {
	var buffer bytes.Buffer
	for _, value := range values {
		if err := binary.Write(&buffer, binary.LittleEndian, value); err != nil {
			log.Fatal(err)
		}
	}
	return buffer.Bytes()
}

func tensors(first, count int) []*pb.Tensor {
	var rows []byte
	for _, row := range logits[first : first+count] {
		rows = append(rows, data(row)...)
	}
	return []*pb.Tensor{
		{Name: "input", DataType: pb.DataType_FLOAT32, Shape: []int64{int64(count), 3},
			Storage: &pb.Tensor_Data{Data: rows}},
		{Name: "target", DataType: pb.DataType_INT64, Shape: []int64{int64(count)},
			Storage: &pb.Tensor_Data{Data: data(labels[first : first+count])}},
	}
}

func floats(data []byte) []float32 {
	values := make([]float32, len(data)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return values
}

func main() {
	// Messages of any size, where gRPC's own limit would be 4 MiB.
	connection, err := grpc.Dial(os.Args[1], grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32)))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	evaluator := pb.NewEvaluatorClient(connection)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	response, err := evaluator.Evaluate(ctx, &pb.EvaluateRequest{
		Function: "cross_entropy", Inputs: tensors(0, 2),
		Outputs: []*pb.Output{{Name: "loss"}, {Name: "grad.input"}}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("loss %.6f\ngradient", floats(response.Outputs[0].GetData())[0])
	for _, value := range floats(response.Outputs[1].GetData()) {
		fmt.Printf(" %.6f", value)
	}
	fmt.Println()

	stream, err := evaluator.EvaluateStream(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for row := range logits {
		// The first names the function; each brings a row.
		request := &pb.EvaluateRequest{Inputs: tensors(row, 1)}
		if row == 0 {
			request.Function = "cross_entropy"
		}
		if err := stream.Send(request); err != nil {
			log.Fatal(err)
		}
	}
	stream.CloseSend()
	for {
		answer, err := stream.Recv()
		if err == io.EOF {
			break
		} else if err != nil {
			log.Fatal(err)
		}
		response = answer
	}
	fmt.Printf("of %d rows %.6f\n", response.Summary.Rows, response.Summary.Values["loss"])

	_, err = evaluator.Evaluate(ctx, &pb.EvaluateRequest{Function: "cross_entropi"})
	if status.Code(err) == codes.NotFound {
		fmt.Println("NOT_FOUND", status.Convert(err).Message())
	}
}
