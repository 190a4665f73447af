// A loss and its gradient by gRPC, then the exact loss of a data set in batches. With Debian's packages:
//
//   apt-get install openjdk-17-jdk-headless libgrpc-java libnetty-java libprotobuf-java libguava-java \
//     libperfmark-java protobuf-compiler protobuf-compiler-grpc-java-plugin
//   protoc -I proto --java_out=. --grpc_out=. --plugin=protoc-gen-grpc=/usr/bin/grpc_java_plugin lossd.proto
//   javac -cp '/usr/share/java/*' -d . Evaluate.java lossd/v1/*.java
//   java -cp '.:/usr/share/java/*' Evaluate 127.0.0.1:5677
//
// Not by the Unix socket: Debian's netty comes without the native library that it needs for that.

import com.google.protobuf.ByteString;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.stub.StreamObserver;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import lossd.v1.EvaluatorGrpc;
import lossd.v1.Lossd.DataType;
import lossd.v1.Lossd.EvaluateRequest;
import lossd.v1.Lossd.EvaluateResponse;
import lossd.v1.Lossd.Output;
import lossd.v1.Lossd.Tensor;

public class Evaluate {
  static final float[][] LOGITS = {{2, 1, 0}, {0, 1, 2}};
  static final long[] LABELS = {0, 1};

  /** Rows of the data set as inputs of a request. */
  static EvaluateRequest.Builder request(String function, int first, int count) {
    ByteBuffer logits = ByteBuffer.allocate(4 * 3 * count).order(ByteOrder.LITTLE_ENDIAN);
    ByteBuffer labels = ByteBuffer.allocate(8 * count).order(ByteOrder.LITTLE_ENDIAN);
    for (int row = first; row < first + count; row++) {
      for (float value : LOGITS[row]) logits.putFloat(value);
      labels.putLong(LABELS[row]);
    }
    logits.flip();
    labels.flip();
    return EvaluateRequest.newBuilder().setFunction(function)
        .addInputs(Tensor.newBuilder().setName("input").setDataType(DataType.FLOAT32)
            .addShape(count).addShape(3).setData(ByteString.copyFrom(logits)))
        .addInputs(Tensor.newBuilder().setName("target").setDataType(DataType.INT64)
            .addShape(count).setData(ByteString.copyFrom(labels)));
  }

  static ByteBuffer bytes(Tensor tensor) {
    return tensor.getData().asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
  }

  public static void main(String[] arguments) throws Exception {
    // Messages of any size, where gRPC's own limit would be 4 MiB.
    ManagedChannel channel = NettyChannelBuilder.forTarget(arguments[0]).usePlaintext()
        .maxInboundMessageSize(Integer.MAX_VALUE).build();
    EvaluatorGrpc.EvaluatorBlockingStub evaluator = EvaluatorGrpc.newBlockingStub(channel);

    EvaluateResponse response = evaluator.withDeadlineAfter(5, TimeUnit.SECONDS).evaluate(
        request("cross_entropy", 0, 2).addOutputs(Output.newBuilder().setName("loss"))
            .addOutputs(Output.newBuilder().setName("grad.input")).build());
    System.out.printf(Locale.ROOT, "loss %.6f%n", bytes(response.getOutputs(0)).getFloat());
    System.out.print("gradient");
    for (ByteBuffer gradient = bytes(response.getOutputs(1)); gradient.hasRemaining();) {
      System.out.printf(Locale.ROOT, " %.6f", gradient.getFloat());
    }
    System.out.println();

    CompletableFuture<EvaluateResponse> last = new CompletableFuture<>();
    StreamObserver<EvaluateRequest> batches = EvaluatorGrpc.newStub(channel)
        .withDeadlineAfter(5, TimeUnit.SECONDS).evaluateStream(new StreamObserver<>() {
          private EvaluateResponse latest;

          @Override public void onNext(EvaluateResponse response) { latest = response; }

          @Override public void onError(Throwable error) { last.completeExceptionally(error); }

          @Override public void onCompleted() { last.complete(latest); }
        });
    for (int row = 0; row < 2; row++) {
      // The first names the function; each brings a row.
      batches.onNext(request(row == 0 ? "cross_entropy" : "", row, 1).build());
    }
    batches.onCompleted();
    response = last.get();
    System.out.printf(Locale.ROOT, "of %d rows %.6f%n", response.getSummary().getRows(),
        response.getSummary().getValuesOrThrow("loss"));

    try {
      evaluator.withDeadlineAfter(5, TimeUnit.SECONDS)
          .evaluate(EvaluateRequest.newBuilder().setFunction("cross_entropi").build());
    } catch (StatusRuntimeException error) {
      Status status = error.getStatus();
      System.out.println(status.getCode() + " " + status.getDescription());
    }
    channel.shutdown();
  }
}
