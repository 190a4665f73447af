import Glibc
import LossdSocket
import LossdTensor
import LossdWire

/// What one thread of a benchmark has seen. Confined to it while it runs.
struct BenchTally: Sendable {
  /// Of calls in the measured time, nanoseconds.
  var latencies = BenchHistogram()
  var failed: UInt64 = 0
  var firstFailure: StatusError?
  var sent: UInt64 = 0
  var received: UInt64 = 0
  /// Calls that were due and had no answer when the run ended.
  var unanswered: UInt64 = 0

  mutating func add(_ other: BenchTally) {
    latencies.add(other.latencies)
    failed += other.failed
    firstFailure = firstFailure ?? other.firstFailure
    sent += other.sent
    received += other.received
    unanswered += other.unanswered
  }
}

/// One connection of a benchmark: calls out of a template, their answers and how long they took. A
/// hot path: nothing is allocated once it runs. Confined to its thread.
final class BenchConnection: FrameSink {
  private struct Slot {
    /// 0: free.
    var stream: UInt32 = 0
    /// When it began, or was to begin.
    var time: UInt64 = 0
  }

  private static let vectorsMax = 16

  let descriptor: Int32
  private let template: BenchTemplate
  private let decoder = FrameDecoder(role: .client, maxMessageBytes: 64 << 20)
  private let arena = MessageArena(retainedBytes: 16 << 10)
  private let input: AlignedBuffer
  private var payload = AlignedBuffer(count: 1 << 10)
  private var nextStream: UInt32 = 1
  /// By the last bits of a stream's number; beside them what found its place taken.
  private var slots: [Slot]
  private var others: [UInt32: UInt64] = [:]
  private(set) var open = 0
  /// Answers since it was last asked.
  private var ended = 0
  private(set) var hello: HelloMessage?

  /// Heads of calls that are not written yet.
  private let output: AlignedBuffer
  private var outputBegin = 0
  private var outputEnd = 0
  /// Of the call that is being written, where tails are written beside heads: how far it is.
  private var writtenOfFirst = 0

  /// Answers that come are of this time, and count only from then on.
  var now: UInt64 = 0
  var countsFrom = UInt64.max
  var countsUntil = UInt64.max
  var tally = BenchTally()

  /// Connects and waits for HELLO. `depth`: calls under way at once, at most.
  init(_ address: Address, _ template: BenchTemplate, depth: Int) throws {
    self.template = template
    slots = Array(repeating: Slot(), count: (8 * depth).nextPowerOfTwo)
    input = AlignedBuffer(count: 256 << 10)
    output = AlignedBuffer(count: template.head.count * depth)
    descriptor = try Descriptor.connect(to: address).take()
    var patience = timeval(tv_sec: 0, tv_usec: 100_000)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    let greeting = OutputBuffer()
    greeting.encodePreface()
    greeting.encodeFrame(hello: HelloMessage(software: "lossctl/\(lossdVersion)"))
    var failure: Int32?
    let bytes = greeting.bytes
    if Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
      != bytes.count
    {
      failure = errno
    }
    if let failure { throw Complaint("\(address): \(errorText(failure))", status: 69) }
    while hello == nil { try read(waits: true) }
  }

  deinit { _ = close(descriptor) }

  // MARK: - Calls

  /// Queues a call that begins, or was to begin, at `time`. `open` is below the depth.
  func begin(at time: UInt64) throws {
    if nextStream == .max {
      throw Complaint("a connection has had 2^32 calls: take a shorter --duration")
    }
    if outputBegin == outputEnd { (outputBegin, outputEnd) = (0, 0) }
    if outputEnd + template.head.count > output.count { moveToFront() }
    template.write(to: output.base + outputEnd, stream: nextStream)
    outputEnd += template.head.count
    let place = Int(nextStream) & (slots.count - 1)
    if slots[place].stream == 0 {
      slots[place] = Slot(stream: nextStream, time: time)
    } else {
      others[nextStream] = time
    }
    nextStream += 1
    open += 1
  }

  private func moveToFront() {
    output.base.copyMemory(from: output.base + outputBegin, byteCount: outputEnd - outputBegin)
    outputEnd -= outputBegin
    outputBegin = 0
  }

  /// How many calls have been answered since this was last asked.
  func takeEnded() -> Int {
    defer { ended = 0 }
    return ended
  }

  /// The calls that have no answer, as if they had one now.
  func giveUp(at time: UInt64) {
    let left = slots.filter { $0.stream != 0 }.map(\.time) + Array(others.values)
    for begun in left where begun >= countsFrom && begun < countsUntil {
      tally.unanswered += 1
      tally.latencies.add(time - begun)
    }
  }

  private func answered(_ stream: UInt32, isGood: Bool) throws(BadFrame) {
    let place = Int(stream) & (slots.count - 1)
    let begun: UInt64
    if slots[place].stream == stream {
      begun = slots[place].time
      slots[place].stream = 0
    } else if let time = others.removeValue(forKey: stream) {
      begun = time
    } else {
      throw BadFrame("an answer on stream \(stream), which has no call")
    }
    open -= 1
    ended += 1
    guard begun >= countsFrom && begun < countsUntil else { return }
    if isGood { tally.latencies.add(now - begun) } else { tally.failed += 1 }
  }

  // MARK: - Writing

  var wantsToWrite: Bool { outputBegin < outputEnd }

  /// Writes what is queued, as far as the socket takes it.
  func flush() throws {
    while wantsToWrite {
      let count = template.tail.count == 0 ? writeHeads() : writeCalls()
      if count < 0 {
        if errno == EINTR { continue }
        if errno == EAGAIN { return }
        throw Complaint("the daemon went away: \(errorText(errno))", status: 69)
      }
      tally.sent += UInt64(count)
    }
  }

  private func writeHeads() -> Int {
    let count = Glibc.send(
      descriptor, output.base + outputBegin, outputEnd - outputBegin,
      Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
    if count > 0 { outputBegin += count }
    return count
  }

  private func writeCalls() -> Int {
    let (head, tail) = (template.head.count, template.tail)
    let written = withUnsafeTemporaryAllocation(
      of: iovec.self, capacity: BenchConnection.vectorsMax
    ) { vectors in
      var count = 0
      var (begin, skipped) = (outputBegin, writtenOfFirst)
      while begin < outputEnd && count + 2 <= vectors.count {
        if skipped < head {
          vectors[count] = iovec(iov_base: output.base + begin + skipped, iov_len: head - skipped)
          count += 1
        }
        let sent = max(skipped - head, 0)
        vectors[count] = iovec(iov_base: tail.base + sent, iov_len: tail.count - sent)
        count += 1
        begin += head
        skipped = 0
      }
      var message = msghdr()
      message.msg_iov = vectors.baseAddress
      message.msg_iovlen = count
      return sendmsg(
        descriptor, &message, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
    }
    if written > 0 {
      writtenOfFirst += written
      outputBegin += writtenOfFirst / template.byteCount * head
      writtenOfFirst %= template.byteCount
    }
    return written
  }

  // MARK: - Reading

  /// Reads once; `waits`: until something is there, or a tenth of a second. Whether there was
  /// something.
  @discardableResult
  func read(waits: Bool) throws -> Bool {
    let direct = decoder.directDestination(minimum: 64 << 10)
    let place = direct ?? input.bytes
    let flags = waits ? 0 : Int32(MSG_DONTWAIT)
    let count = recv(descriptor, place.baseAddress, place.count, flags)
    if count < 0 {
      if errno == EAGAIN || errno == EINTR { return false }
      throw Complaint("the daemon went away: \(errorText(errno))", status: 69)
    }
    if count == 0 { throw Complaint("the daemon closed the connection", status: 69) }
    now = monotonicNanoseconds()
    tally.received += UInt64(count)
    do throws(BadFrame) {
      if direct != nil {
        try decoder.directBytesArrived(count, self)
      } else {
        _ = try decoder.decode(UnsafeRawBufferPointer(rebasing: place[..<count]), self)
      }
    } catch { throw Complaint("the daemon's answer: \(error)", status: 76) }
    return true
  }

  func frameBegan(_ header: FrameHeader) throws(BadFrame) -> MessageDisposition { .receive }

  func messageArrived(
    _ header: FrameHeader, _ message: UnsafeRawBufferPointer
  ) throws(BadFrame) {
    if header.type == .message { return }
    defer { arena.reset() }
    do throws(StatusError) {
      switch header.type {
      case .hello: hello = try HelloMessage(decoding: message, in: arena)
      case .status:
        let error = try StatusMessage(decoding: message, in: arena).error
        tally.firstFailure = tally.firstFailure ?? error
      case .goAway: throw StatusError(.unavailable, "the daemon is shutting down")
      default: break
      }
    } catch { throw BadFrame("\(error)") }
  }

  func payloadDestination(_ header: FrameHeader) -> PayloadDisposition {
    let count = Int(header.payloadLength)
    if payload.count < count { payload = AlignedBuffer(count: count) }
    return .receive(payload.base)
  }

  func frameEnded(_ header: FrameHeader) throws(BadFrame) {
    if header.type == .status || header.type == .message && header.endsStream {
      try answered(header.streamID, isGood: header.type == .message)
    }
  }
}

extension Int {
  /// Itself, or the next above it.
  fileprivate var nextPowerOfTwo: Int {
    var power = 1
    while power < self { power *= 2 }
    return power
  }
}

func monotonicNanoseconds() -> UInt64 {
  var time = timespec()
  clock_gettime(CLOCK_MONOTONIC, &time)
  return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
