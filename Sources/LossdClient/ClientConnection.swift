import Glibc
import LossdSocket
import LossdTensor
import LossdThreads
import LossdWire
import Synchronization

/// One connection to a daemon: a reading thread, a writing thread, and the calls between them.
///
/// `@unchecked Sendable`: what changes is in `state`, behind its lock; the reader's own things are
/// touched by its thread alone.
final class ClientConnection: @unchecked Sendable {
  struct State {
    var calls: [UInt32: ClientCall] = [:]
    var nextStream: UInt32 = 1
    var hello: HelloMessage?
    /// Why no further call can begin here.
    var closed: StatusError?
    /// No new calls: after the server's GOAWAY with code 0, or where it reads no more.
    var isDraining = false
    /// The server's GOAWAY with code 0 has come.
    var isGoingAway = false
    var helloWaiters: [CheckedContinuation<Void, Never>] = []
    var slotWaiters: [CheckedContinuation<Void, Never>] = []
    var pings: [UInt64: CheckedContinuation<Bool, Never>] = [:]
    var nextPing: UInt64 = 1
    /// Who waits for regions of shared memory, by their numbers.
    var regions: [UInt64: CheckedContinuation<Int32?, Never>] = [:]
    var nextRegion: UInt64 = 1
    /// Whether the daemon has given any.
    var hasSharedMemory = false
    /// Bytes from which on the daemon has refused a region.
    var regionRefused = Int.max
  }

  let state = Mutex(State())
  private let descriptor: Int32
  /// Whether the daemon may share memory: on Unix sockets.
  private let isUnix: Bool
  private let writer: FrameWriter
  private let encoder = Mutex(EncoderBox())

  /// The encoding buffer, confined by its mutex.
  struct EncoderBox: @unchecked Sendable {
    let buffer = OutputBuffer()
  }

  init(_ address: Address, software: String) throws(StatusError) {
    if case .unix = address { isUnix = true } else { isUnix = false }
    do throws(SocketError) {
      descriptor = try Descriptor.connect(to: address).take()
    } catch {
      throw StatusError(.unavailable, "\(error)", metadata: StatusError.connectFailure)
    }
    let failed = Failure()
    writer = FrameWriter(descriptor) { number in failed.report?(number) }
    failed.report = { [weak self] _ in
      // The server reads no more. What it said last, a Summary perhaps, is still to be read: the
      // reader ends the calls when it has come to the end.
      self?.state.withLock { $0.isDraining = true }
    }
    let features = isUnix ? [ClientConnection.sharedMemoryFeature] : []
    let bytes = encode { buffer in
      buffer.encodePreface()
      buffer.encodeFrame(hello: HelloMessage(software: software, features: features))
    }
    writer.send(OutgoingFrames(bytes: bytes))
    let reader = ClientReader(self, descriptor, sharesMemory: isUnix)
    startThread { reader.run() }
  }

  /// The feature's name in HELLO.
  private static let sharedMemoryFeature = "shm"

  /// Set once, before anything can fail.
  private final class Failure: @unchecked Sendable {
    var report: (@Sendable (Int32) -> Void)?
  }

  /// The reader is the last to use the descriptor.
  func readerEnded() { _ = Glibc.close(descriptor) }

  var isUsable: Bool { state.withLock { $0.closed == nil && !$0.isDraining } }

  /// Whether the daemon has said that it is going: it is being restarted, perhaps.
  var isGoingAway: Bool { state.withLock { $0.isGoingAway } }

  // MARK: - Writing

  func encode(_ body: (OutputBuffer) -> Void) -> [UInt8] {
    encoder.withLock { box in
      body(box.buffer)
      defer { box.buffer.removeAll() }
      return Array(box.buffer.bytes)
    }
  }

  func encodeThrowing(
    _ body: (OutputBuffer) throws(StatusError) -> Void
  ) throws(StatusError) -> [UInt8] {
    var failure: StatusError?
    let bytes = encode { buffer in
      do throws(StatusError) { try body(buffer) } catch { failure = error }
    }
    if let failure { throw failure }
    return bytes
  }

  func send(_ bytes: [UInt8]) { writer.send(OutgoingFrames(bytes: bytes)) }
  func sendAndWait(_ frames: OutgoingFrames) async { await writer.sendAndWait(frames) }

  /// Queues an answer to a frame of the server's; false where the server reads none of them.
  func sendAnswer(_ bytes: [UInt8]) -> Bool { writer.sendAnswer(OutgoingFrames(bytes: bytes)) }

  // MARK: - Calls

  /// A stream's request goes out that has not waited for credit: its response comes, and a Summary.
  func expectResponse(_ call: ClientCall) { state.withLock { _ in call.responsesDue += 1 } }

  /// What the server told; waits for it.
  func hello() async throws(StatusError) -> HelloMessage {
    while true {
      let (hello, closed) = state.withLock { ($0.hello, $0.closed) }
      if let hello { return hello }
      if let closed { throw closed }
      await withCheckedContinuation { continuation in
        let isLate = state.withLock { state in
          if state.hello != nil || state.closed != nil { return true }
          state.helloWaiters.append(continuation)
          return false
        }
        if isLate { continuation.resume() }
      }
    }
  }

  /// Opens a stream, once the server's limit has room for it.
  func open(_ method: String, _ options: EvaluationOptions, credit: UInt32) async throws
    -> ClientCall
  {
    let hello = try await hello()
    while true {
      // The OPENs must be queued in the order of their ids: both under the lock.
      let call: ClientCall? = try state.withLock { state in
        if state.isDraining || state.closed != nil { throw NeverBegan() }
        if state.nextStream == .max { throw NeverBegan() }
        if state.calls.count >= Int(hello.maxStreams) { return nil }
        let call = ClientCall(state.nextStream, credit: UInt64(hello.streamCredit))
        state.nextStream += 1
        state.calls[call.stream] = call
        send(
          encode { buffer in
            buffer.encodeFrame(
              open: method, stream: call.stream,
              timeoutMicroseconds: options.timeoutMicroseconds, credit: credit)
          })
        return call
      }
      if let call { return call }
      await withCheckedContinuation { continuation in
        let isLate = state.withLock { state in
          if state.calls.count < Int(hello.maxStreams) || state.closed != nil { return true }
          state.slotWaiters.append(continuation)
          return false
        }
        if isLate { continuation.resume() }
      }
    }
  }

  /// The next response; nil after the last one of a call that ended well.
  func receive(_ call: ClientCall) async throws -> ClientCall.Response? {
    while true {
      let found: (ClientCall.Response?, Result<Void, StatusError>?, Bool) = state.withLock { _ in
        if !call.responses.isEmpty { return (call.responses.removeFirst(), nil, false) }
        return (nil, call.end, call.neverBegan)
      }
      if let response = found.0 { return response }
      if found.2 { throw NeverBegan() }
      if let end = found.1 {
        try end.get()
        return nil
      }
      await withCheckedContinuation { continuation in
        let isLate = state.withLock { _ in
          if !call.responses.isEmpty || call.end != nil { return true }
          call.receiver = continuation
          return false
        }
        if isLate { continuation.resume() }
      }
    }
  }

  /// Takes one credit for a request; waits for it. False when the call is over.
  func takeCredit(_ call: ClientCall) async -> Bool {
    while true {
      let taken: Bool? = state.withLock { _ in
        if call.end != nil { return false }
        if call.credit == 0 { return nil }
        call.credit -= 1
        call.responsesDue += 1
        return true
      }
      if let taken { return taken }
      await withCheckedContinuation { continuation in
        let isLate = state.withLock { _ in
          if call.credit > 0 || call.end != nil { return true }
          call.creditWaiter = continuation
          return false
        }
        if isLate { continuation.resume() }
      }
    }
  }

  /// Whether the server has ended it, or the connection is closed.
  func hasEnded(_ call: ClientCall) -> Bool { state.withLock { _ in call.end != nil } }

  /// Asks the server to stop; the call ends with CANCELLED unless it has ended.
  func cancel(_ call: ClientCall) {
    let isOpen = state.withLock { _ in call.end == nil }
    if isOpen { send(encode { $0.encodeFrame(cancel: call.stream) }) }
  }

  /// Whether the answer came.
  func ping() async -> Bool {
    await withCheckedContinuation { continuation in
      let number: UInt64? = state.withLock { state in
        if state.closed != nil { return nil }
        state.nextPing += 1
        state.pings[state.nextPing] = continuation
        return state.nextPing
      }
      guard let number else {
        continuation.resume(returning: false)
        return
      }
      send(
        encode { buffer in withUnsafeBytes(of: number) { buffer.encodeFrame(ping: $0) } })
    }
  }

  // MARK: - Shared memory

  /// Asks the daemon for memory; nil where there is none of that size, of which the daemon is not
  /// asked again.
  func sharedMemory(_ byteCount: Int) async throws(StatusError) -> SharedMemory? {
    guard byteCount > 0, try await hello().features.contains(ClientConnection.sharedMemoryFeature),
      isUnix
    else { return nil }
    var number: UInt64 = 0
    let received: Int32? = await withCheckedContinuation { continuation in
      let asked: UInt64? = state.withLock { state in
        if state.closed != nil || state.isDraining || byteCount >= state.regionRefused {
          return nil
        }
        let number = state.nextRegion
        state.nextRegion += 1
        state.regions[number] = continuation
        return number
      }
      guard let asked else { return continuation.resume(returning: nil) }
      number = asked
      let message = RegionMessage(
        region: asked, length: UInt64(SharedMemory.regionBytes(byteCount)))
      send(encode { $0.encodeFrame(region: message) })
    }
    guard let received else {
      if let closed = state.withLock({ $0.closed }) { throw closed }
      if number != 0 { refused(byteCount) }
      return nil
    }
    let descriptor = Descriptor(adopting: received)
    if let memory = SharedMemory(byteCount, region: number, of: self, descriptor) {
      state.withLock { $0.hasSharedMemory = true }
      return memory
    }
    release(number)
    refused(byteCount)
    return nil
  }

  var hasSharedMemory: Bool { state.withLock { $0.hasSharedMemory } }

  private func refused(_ byteCount: Int) {
    state.withLock { $0.regionRefused = min($0.regionRefused, byteCount) }
  }

  /// Regions whose answers are still to come.
  var regionsAsked: Int { state.withLock { $0.regions.count } }

  func release(_ region: UInt64) { send(encode { $0.encodeFrame(release: region) }) }

  /// Waits until all is written that has been queued, or never will be.
  func flush() async { await writer.sendAndWait(OutgoingFrames(bytes: [])) }

  // MARK: - The end

  /// Nothing more can come: every call ends with `error`.
  func close(_ error: StatusError) {
    let (waiters, pings, regions) = state.withLock {
      state -> (
        [CheckedContinuation<Void, Never>], [CheckedContinuation<Bool, Never>],
        [CheckedContinuation<Int32?, Never>]
      ) in
      if state.closed != nil { return ([], [], []) }
      state.closed = error
      var waiters = state.helloWaiters + state.slotWaiters
      state.helloWaiters = []
      state.slotWaiters = []
      for call in state.calls.values {
        if call.end == nil { call.end = .failure(error) }
        waiters += call.takeWaiters()
      }
      state.calls.removeAll()
      let pings = Array(state.pings.values)
      state.pings.removeAll()
      let regions = Array(state.regions.values)
      state.regions.removeAll()
      return (waiters, pings, regions)
    }
    writer.close()
    shutdownBoth(descriptor)
    for waiter in waiters { waiter.resume() }
    for ping in pings { ping.resume(returning: false) }
    for region in regions { region.resume(returning: nil) }
  }
}

extension StatusError {
  /// Marks that there was no connection, and so no call.
  static let connectFailure = ["lossd-client": "connect"]

  var isConnectFailure: Bool { metadata == StatusError.connectFailure }
}
