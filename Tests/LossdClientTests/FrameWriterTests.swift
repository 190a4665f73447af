import Glibc
import LossdTensor
import Testing

@testable import LossdClient

@Suite struct FrameWriterTests {
  private final class Ends {
    var raw: [Int32] = [-1, -1]
    init() { socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, &raw) }
    deinit { for end in raw { close(end) } }

    func read(_ count: Int) -> [UInt8] {
      var (bytes, found) = ([UInt8](repeating: 0, count: count), 0)
      while found < count {
        let part = bytes.withUnsafeMutableBytes {
          recv(raw[1], $0.baseAddress! + found, count - found, 0)
        }
        if part <= 0 { return [] }
        found += part
      }
      return bytes
    }
  }

  @Test(
    "frames are written in order, each tensor behind them at a multiple of 64, zeros between"
  )
  func order() async {
    let ends = Ends()
    let writer = FrameWriter(ends.raw[0]) { _ in }
    let tensors = [Tensor([1, 2, 3] as [Float], shape: [3]), Tensor([4] as [Double], shape: [])]
    writer.send(OutgoingFrames(bytes: [1, 2, 3]))
    await writer.sendAndWait(OutgoingFrames(bytes: [4, 5], tensors: tensors))
    writer.send(OutgoingFrames(bytes: [6]))
    let expected =
      [1, 2, 3, 4, 5] + Array(tensors[0].bytes) + Array(repeating: UInt8(0), count: 64 - 12)
      + Array(tensors[1].bytes) + [6]
    #expect(ends.read(expected.count) == expected)
    writer.close()
  }

  @Test("whoever waits for a write goes on when it fails, when it is dropped, and after the end")
  func ends() async {
    let ends = Ends()
    let writer = FrameWriter(ends.raw[0]) { _ in }
    shutdown(ends.raw[0], Int32(SHUT_RDWR))
    await writer.sendAndWait(OutgoingFrames(bytes: [1]))
    await writer.sendAndWait(OutgoingFrames(bytes: [2]))
    writer.close()
    await writer.sendAndWait(OutgoingFrames(bytes: [3]))
  }

  @Test("a time in seconds is one in microseconds, rounded up, at least 1 and bounded")
  func timeouts() {
    for (seconds, microseconds) in [
      (nil, 0), (0, 1), (-1, 1), (1e-9, 1), (1.5, 1_500_000), (1e300, 1_000_000_000_000_000),
    ] as [(Double?, UInt64)] {
      #expect(EvaluationOptions(timeout: seconds).timeoutMicroseconds == microseconds)
    }
  }
}
