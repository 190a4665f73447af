import Glibc
import LossdSocket
import LossdTensor
import Testing

@testable import LossdServer

@Suite struct OutputQueueTests {
  /// A queue and both ends of its socket.
  private final class Bench {
    let queue = OutputQueue()
    let pool = BufferPool(cacheBytesMax: 0)
    let account = budget(1 << 30)
    let ours: Int32
    let theirs: Int32
    var sent: [UInt8] = []
    var received: [UInt8] = []
    private var isOpen = true

    init() throws {
      (ours, theirs) = try Descriptor.pair(nonBlocking: true).take()
      var size: Int32 = 4096
      setsockopt(ours, SOL_SOCKET, SO_SNDBUF, &size, 4)
    }

    func closeTheirs() {
      if isOpen { close(theirs) }
      isOpen = false
    }

    deinit {
      close(ours)
      closeTheirs()
    }

    func append(frame bytes: [UInt8]) {
      bytes.withUnsafeBytes { queue.frames.append($0) }
      queue.framesAppended()
      sent += bytes
    }

    func buffer(_ bytes: [UInt8]) throws -> PayloadBuffer {
      #expect(account.reserve(bytes.count) == nil)
      let buffer = try PayloadBuffer(reserved: bytes.count, account, pool)
      bytes.withUnsafeBytes {
        if let base = $0.baseAddress { buffer.base.copyMemory(from: base, byteCount: $0.count) }
      }
      return buffer
    }

    func append(payload bytes: [UInt8]) throws {
      var results = ResultBytes()
      results.buffer = try buffer(bytes)
      results.count = bytes.count
      results.total = bytes.count
      queue.append(results)
      sent += bytes
    }

    func receive(atMost count: Int) {
      var bytes = [UInt8](repeating: 0, count: count)
      let found = recv(theirs, &bytes, count, 0)
      if found > 0 { received += bytes[..<found] }
    }

    /// Writes and reads until nothing is left.
    func drain() {
      for _ in 0..<100_000 {
        var written = 0
        if case .drained = queue.flush(ours, written: &written), received.count == sent.count {
          return
        }
        receive(atMost: 1 << 20)
      }
    }
  }

  private func bytes(_ count: Int, _ numbers: inout Numbers) -> [UInt8] {
    (0..<count).map { _ in UInt8.random(in: 0...255, using: &numbers) }
  }

  @Test("bytes come out in the order that they were queued in, through a socket that takes few")
  func order() throws {
    var numbers = Numbers(seed)
    for _ in 0..<10 {
      let bench = try Bench()
      var written = 0
      for _ in 0..<100 {
        switch Int.random(in: 0..<4, using: &numbers) {
        case 0: bench.append(frame: bytes(Int.random(in: 1...300, using: &numbers), &numbers))
        case 1:
          try bench.append(payload: bytes(Int.random(in: 0...5000, using: &numbers), &numbers))
        case 2:
          try bench.append(payload: bytes(Int.random(in: 4097...50_000, using: &numbers), &numbers))
        default:
          let before = bench.queue.byteCount
          var now = 0
          let outcome = bench.queue.flush(bench.ours, written: &now)
          #expect(bench.queue.byteCount == before - now)
          if case .drained = outcome { #expect(bench.queue.isEmpty) }
          written += now
          bench.receive(atMost: Int.random(in: 1...20_000, using: &numbers))
        }
        #expect(bench.queue.byteCount == bench.sent.count - written)
      }
      bench.drain()
      #expect(bench.received == bench.sent, "LOSSD_SEED=\(seed)")
      #expect(bench.queue.isEmpty && bench.account.bytesInFlight == 0)
    }
  }

  @Test("results that lie in the request's payload follow at multiples of 64, zeros between")
  func pieces() throws {
    let bench = try Bench()
    var results = ResultBytes()
    results.buffer = try bench.buffer(Array(repeating: 1, count: 100))
    results.count = 100
    results.request = try bench.buffer(Array((0..<200).map { UInt8($0) }))
    results.pieces = [(offset: 64, count: 30), (offset: 128, count: 10)]
    bench.queue.append(results)
    bench.sent =
      Array(repeating: 1, count: 100) + Array(repeating: 0, count: 28) + (64..<94).map { UInt8($0) }
      + Array(repeating: 0, count: 34) + (128..<138).map { UInt8($0) }
    bench.drain()
    #expect(bench.received == bench.sent)
  }

  @Test("a reader that is always behind does not make the frames' buffer grow for ever")
  func compaction() throws {
    let bench = try Bench()
    var numbers = Numbers(seed)
    var largest = 0
    for _ in 0..<3000 {
      bench.append(frame: bytes(1000, &numbers))
      var written = 0
      _ = bench.queue.flush(bench.ours, written: &written)
      // As much as comes, with some frames behind.
      if bench.queue.byteCount > 10_000 { bench.receive(atMost: 4000) }
      largest = max(largest, bench.queue.frames.count)
      if bench.queue.byteCount > 100_000 { bench.receive(atMost: 1 << 20) }
    }
    // What has been sent is taken away once it is over 64 KiB and half of all.
    #expect(largest < 2 * (100_000 + (64 << 10)) + 10_000)
    bench.drain()
    #expect(bench.received == bench.sent, "LOSSD_SEED=\(seed)")
  }

  @Test("a write to nobody says so, and what is dropped gives its memory back")
  func ends() throws {
    let bench = try Bench()
    try bench.append(payload: Array(repeating: 7, count: 100_000))
    bench.closeTheirs()
    var written = 0
    guard case .failed(let number) = bench.queue.flush(bench.ours, written: &written) else {
      Issue.record("it was written")
      return
    }
    #expect(number == EPIPE)
    #expect(bench.account.bytesInFlight == 100_000)
    bench.queue.removeAll()
    #expect(bench.queue.isEmpty && bench.queue.byteCount == 0)
    #expect(bench.account.bytesInFlight == 0)
  }
}
