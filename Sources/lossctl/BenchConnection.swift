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
  /// Connections that ended during the run, and why the first did.
  var lost: UInt64 = 0
  var firstLoss: String?
  /// The longest time without one of them, nanoseconds.
  var away: UInt64 = 0

  mutating func add(_ other: BenchTally) {
    latencies.add(other.latencies)
    failed += other.failed
    firstFailure = firstFailure ?? other.firstFailure
    sent += other.sent
    received += other.received
    unanswered += other.unanswered
    lost += other.lost
    firstLoss = firstLoss ?? other.firstLoss
    away = max(away, other.away)
  }
}

/// One connection of a benchmark: calls out of a template, their answers and how long they took.
/// Made again when its daemon has ended it. A hot path: nothing is allocated while it lasts.
/// Confined to its thread.
final class BenchConnection: FrameSink {
  private struct Slot {
    /// 0: free.
    var stream: UInt32 = 0
    /// When it began, or was to begin.
    var time: UInt64 = 0
  }

  private static let vectorsMax = 16
  /// How long a connection and HELLO are waited for, milliseconds.
  private static let connectTime = 5000
  /// Between two tries to make it again, nanoseconds.
  private static let pause: UInt64 = 20_000_000

  /// -1: there is none, and nothing can be read or written.
  private(set) var descriptor: Int32 = -1
  private let address: Address
  private let depth: Int
  private let template: BenchTemplate
  private var decoder = FrameDecoder(role: .client, maxMessageBytes: 64 << 20)
  private let arena = MessageArena(retainedBytes: 16 << 10)
  private let input: AlignedBuffer
  private var payload = AlignedBuffer(count: 1 << 10)
  private var nextStream: UInt32 = 1
  /// By the last bits of a stream's number; beside them what found its place taken.
  private var slots: [Slot]
  private var others: [UInt32: UInt64] = [:]
  private(set) var open = 0
  private(set) var hello: HelloMessage?
  /// The daemon begins no more calls here, or has ended the connection.
  private var goAway: GoAwayMessage?
  /// When calls began that the daemon has said it never began: they are the next.
  private var again: [UInt64] = []
  /// Since when there is no connection.
  private(set) var lostAt: UInt64?
  private var nextTry: UInt64 = 0

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
    self.address = address
    self.depth = depth
    slots = Array(repeating: Slot(), count: (8 * depth).nextPowerOfTwo)
    input = AlignedBuffer(count: 256 << 10)
    output = AlignedBuffer(count: template.head.count * depth)
    try connect()
    let limit = monotonicNanoseconds() + UInt64(BenchConnection.connectTime) * 1_000_000
    while hello == nil {
      try read(waits: true)
      if let loss = tally.firstLoss { throw Complaint(loss, status: 69) }
      if hello == nil && monotonicNanoseconds() > limit {
        throw Complaint(
          "\(address): no answer within \(BenchConnection.connectTime / 1000) s", status: 69)
      }
    }
  }

  private func connect() throws {
    descriptor = try Descriptor.connect(to: address, within: BenchConnection.connectTime).take()
    var patience = timeval(tv_sec: 0, tv_usec: 100_000)
    setsockopt(
      descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    let greeting = OutputBuffer()
    greeting.encodePreface()
    greeting.encodeFrame(hello: HelloMessage(software: "lossctl/\(lossdVersion)"))
    let bytes = greeting.bytes
    let count = Glibc.send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
    if count != bytes.count {
      let failure = errno
      throw Complaint("\(address): \(errorText(failure))", status: 69)
    }
  }

  deinit { if descriptor >= 0 { _ = close(descriptor) } }

  // MARK: - Connections that end

  /// Whether a call can begin.
  var takesCalls: Bool { open < depth && hello != nil && goAway == nil && descriptor >= 0 }

  /// Calls that are to be begun before others: the time of the next one.
  func takeAgain() -> UInt64? { again.isEmpty ? nil : again.removeFirst() }
  var hasAgain: Bool { !again.isEmpty }

  /// The connection is over: calls that have no answer have failed.
  private func lose(_ reason: String) {
    if descriptor < 0 { return }
    _ = close(descriptor)
    descriptor = -1
    now = monotonicNanoseconds()
    lostAt = lostAt ?? now
    nextTry = now
    // One that said no HELLO was none.
    if hello != nil { tally.lost += 1 }
    tally.firstLoss = tally.firstLoss ?? reason
    for begun in underWay where begun >= countsFrom && begun < countsUntil { tally.failed += 1 }
    if open > 0 { tally.firstFailure = tally.firstFailure ?? StatusError(.unavailable, reason) }
    forgetCalls()
    open = 0
    (outputBegin, outputEnd, writtenOfFirst) = (0, 0, 0)
    (hello, goAway) = (nil, nil)
    nextStream = 1
    decoder = FrameDecoder(role: .client, maxMessageBytes: 64 << 20)
  }

  private var underWay: [UInt64] {
    slots.filter { $0.stream != 0 }.map(\.time) + Array(others.values)
  }

  private func forgetCalls() {
    for index in slots.indices { slots[index].stream = 0 }
    others.removeAll()
  }

  /// Makes the connection again, if it is time for that.
  func connectAgain() {
    let time = monotonicNanoseconds()
    if descriptor >= 0 || time < nextTry { return }
    do { try connect() } catch {
      if descriptor >= 0 { _ = close(descriptor) }
      descriptor = -1
    }
    nextTry = monotonicNanoseconds() + BenchConnection.pause
  }

  /// What the daemon said of the connection's end: calls that it never began are begun elsewhere.
  private func settle(_ message: GoAwayMessage) {
    if message.status.code != 0 {
      return lose("the daemon ended the connection: \(message.status.message)")
    }
    func isDropped(_ stream: UInt32) -> Bool { stream > message.lastStreamID }
    for index in slots.indices where slots[index].stream != 0 && isDropped(slots[index].stream) {
      again.append(slots[index].time)
      slots[index].stream = 0
    }
    for (stream, time) in others where isDropped(stream) {
      again.append(time)
      others[stream] = nil
    }
    open = slots.count { $0.stream != 0 } + others.count
    if open == 0 { lose("the daemon is shutting down") }
  }

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

  /// The calls that have no answer, as if they had one now.
  func giveUp(at time: UInt64) {
    let left = underWay + again
    again.removeAll()
    if let lostAt { tally.away = max(tally.away, time - lostAt) }
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
    guard begun >= countsFrom && begun < countsUntil else { return }
    if isGood { tally.latencies.add(now - begun) } else { tally.failed += 1 }
  }

  // MARK: - Writing

  var wantsToWrite: Bool { outputBegin < outputEnd }

  /// Writes what is queued, as far as the socket takes it.
  func flush() {
    while wantsToWrite {
      let count = template.tail.count == 0 ? writeHeads() : writeCalls()
      if count < 0 {
        if errno == EINTR { continue }
        if errno == EAGAIN { return }
        // What it said last is still to be read; then the connection has come to its end.
        (outputBegin, outputEnd, writtenOfFirst) = (0, 0, 0)
        return
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
    if descriptor < 0 { return false }
    let direct = decoder.directDestination(minimum: 64 << 10)
    let place = direct ?? input.bytes
    let flags = waits ? 0 : Int32(MSG_DONTWAIT)
    let count = recv(descriptor, place.baseAddress, place.count, flags)
    if count < 0 {
      if errno == EAGAIN || errno == EINTR { return false }
      lose("the daemon went away: \(errorText(errno))")
      return true
    }
    if count == 0 {
      lose("the daemon closed the connection")
      return true
    }
    now = monotonicNanoseconds()
    tally.received += UInt64(count)
    do throws(BadFrame) {
      if direct != nil {
        try decoder.directBytesArrived(count, self)
      } else {
        _ = try decoder.decode(UnsafeRawBufferPointer(rebasing: place[..<count]), self)
      }
    } catch { throw Complaint("the daemon's answer: \(error)", status: 76) }
    if let goAway { settle(goAway) }
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
      case .hello:
        hello = try HelloMessage(decoding: message, in: arena)
        if let lost = lostAt { tally.away = max(tally.away, now - lost) }
        lostAt = nil
      case .status:
        let error = try StatusMessage(decoding: message, in: arena).error
        tally.firstFailure = tally.firstFailure ?? error
      case .goAway: goAway = try GoAwayMessage(decoding: message, in: arena)
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
