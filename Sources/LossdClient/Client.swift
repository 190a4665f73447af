import LossdSocket
import LossdTensor
import LossdWire
import Synchronization

/// A client of one daemon. Connects when first used, and again when the connection is gone; a call
/// that the daemon says it never began is tried again. Any task, many at once.
public final class Client: Sendable {
  public let address: Address
  private let software: String
  private let current = Mutex<ClientConnection?>(nil)

  /// How long after a call's deadline its answer may come, seconds.
  private static let patienceSeconds = 5.0
  private static let flushSecondsMax = 1.0
  /// How often a call that never began is tried again, with a pause each: 10 s.
  private static let triesMax = 100
  private static let pauseMilliseconds = 100

  /// - Parameter software: what HELLO says: name and version of the program.
  public init(_ address: Address, software: String = "lossd-swift/\(lossdVersion)") {
    self.address = address
    self.software = software
  }

  deinit { close() }

  /// Ends the connection; calls under way end with UNAVAILABLE.
  public func close() {
    current.withLock { connection in
      connection?.close(StatusError(.unavailable, "the client was closed"))
      connection = nil
    }
  }

  /// What the daemon said of itself and its limits; connects where no connection takes calls.
  /// `timeout` in seconds; nil: none.
  public func hello(timeout: Double? = nil) async throws(StatusError) -> HelloMessage {
    try await retrying { () async throws in
      let connection = try self.connection()
      let patience = self.closeWhenSilent(connection, timeout)
      defer { patience?.cancel() }
      return try await connection.hello()
    }
  }

  /// The most bytes of tensors, with the gaps between them, that one request to a server that said
  /// `hello` may have.
  public func payloadBytesMax(_ hello: HelloMessage) -> Int {
    let own = hello.maxPayloadBytes == 0 ? UInt64(UInt32.max) : hello.maxPayloadBytes
    return Int(min(own, UInt64(UInt32.max)))
  }

  /// Whether the daemon answers on an open connection.
  public func ping() async throws(StatusError) -> Bool {
    let connection = try connection()
    _ = try await connection.hello()
    return await connection.ping()
  }

  /// Memory that the daemon shares, `byteCount` bytes of it: tensors that lie there cross no
  /// socket. Nil where there is none: by TCP, where the daemon's limits leave no room or it is
  /// going down, or this process has no descriptor for it. Nobody waits for room. `timeout` in
  /// seconds; nil: none.
  public func sharedMemory(
    _ byteCount: Int, timeout: Double? = nil
  ) async throws(StatusError) -> SharedMemory? {
    // The next call waits for a daemon that is being restarted.
    if let current = current.withLock({ $0 }), !current.isUsable { return nil }
    let connection = try connection()
    let patience = closeWhenSilent(connection, timeout)
    defer { patience?.cancel() }
    return try await connection.sharedMemory(byteCount)
  }

  /// Waits until what was begun is written, such as that shared memory is given back: `close` drops
  /// what is not. Where there is some, waits for the daemon to have read it too, up to a second: a
  /// daemon that answers the first that was given back to a closed connection reads no further.
  public func flush() async {
    guard let connection = current.withLock({ $0 }) else { return }
    await connection.flush()
    if !connection.hasSharedMemory || !connection.isUsable { return }
    let patience = Task {
      do { try await Task.sleep(for: .seconds(Client.flushSecondsMax)) } catch { return }
      connection.close(StatusError(.unavailable, "\(address): the server answers no PING"))
    }
    _ = await connection.ping()
    patience.cancel()
  }

  /// One evaluation. Names of functions, inputs and attributes are torch.nn.functional's.
  /// Cancelling the task cancels the call.
  /// - Parameter places: tensors in `SharedMemory` for results by name, each as long as its result;
  ///   nothing else uses that memory meanwhile. A result for which the memory cannot be used comes
  ///   by the socket.
  public func evaluate(
    _ function: String, inputs: [(name: String, tensor: Tensor)],
    options: EvaluationOptions = EvaluationOptions(), into places: [String: Tensor] = [:]
  ) async throws(StatusError) -> Evaluated {
    let response = try await unary("/lossd.v1.Evaluator/Evaluate", options) {
      (connection, call, limits) throws(StatusError) in
      try encodeRequest(
        connection, call, function: function, inputs: inputs, options: options, id: 1,
        endStream: true, limits, into: places)
    }
    let evaluated = try decodeResponse(response, into: places).evaluated
    try inputs.checkIntact()
    return evaluated
  }

  /// One batch of a data set as a call of its own, with what stays among its inputs: its results,
  /// and the Summary of this batch alone, for `merge`. Cancelling the task cancels the call.
  public func evaluateBatch(
    _ function: String, inputs: [(name: String, tensor: Tensor)],
    options: EvaluationOptions = EvaluationOptions()
  ) async throws(StatusError) -> (evaluated: Evaluated, summary: SummaryMessage) {
    let (batch, total) = try await streamOfOne(function, inputs: inputs, options: options)
    guard let batch, let total, total.batches == 1 else {
      throw StatusError(.internal, "the call ended without its batch's results and Summary")
    }
    try inputs.checkIntact()
    return (batch, total)
  }

  /// What parts of a data set came to together, as one stream of all of it would have said: the
  /// daemon merges their sums in this order, whatever the function. One request takes up to 256.
  /// INVALID_ARGUMENT where there are more, or where the sums are not the function's; INTERNAL
  /// where the daemon is older than this and passes over them.
  public func merge(
    _ function: String, _ parts: [SummaryMessage], options: EvaluationOptions = EvaluationOptions()
  ) async throws(StatusError) -> SummaryMessage {
    let (_, total) = try await streamOfOne(
      function, inputs: [], options: options, summaries: parts)
    guard let total, total.batches == parts.reduce(0, { $0 &+ $1.batches }) else {
      throw StatusError(.internal, "the daemon's Summary is not of all parts")
    }
    return total
  }

  /// A stream of at most one batch, in one request.
  private func streamOfOne(
    _ function: String, inputs: [(name: String, tensor: Tensor)], options: EvaluationOptions,
    summaries: [SummaryMessage] = []
  ) async throws(StatusError) -> (Evaluated?, SummaryMessage?) {
    try await retrying { () async throws in
      try await self.attempt("/lossd.v1.Evaluator/EvaluateStream", options, credit: 1) {
        (connection, call, limits) throws(StatusError) in
        connection.expectResponse(call)
        return try encodeRequest(
          connection, call, function: function, inputs: inputs, options: options, id: 1,
          endStream: true, limits, summaries: summaries)
      } receive: { connection, call in
        var (batch, total): (Evaluated?, SummaryMessage?) = (nil, nil)
        // A daemon that goes down says how far it came, and then that it goes.
        while let response = try await connection.receive(call) {
          let (evaluated, summary) = try decodeResponse(response)
          if let summary { total = summary } else { batch = evaluated }
        }
        return (batch, total)
      }
    }
  }

  /// What the daemon can evaluate; `name`: this function alone. `timeout` in seconds; nil: none.
  public func functions(
    named name: String = "", timeout: Double? = nil
  ) async throws(StatusError) -> [FunctionDescription] {
    let options = EvaluationOptions(timeout: timeout)
    let response = try await unary("/lossd.v1.Evaluator/ListFunctions", options) {
      (connection, call, _) throws(StatusError) in
      OutgoingFrames(
        bytes: try connection.encodeThrowing { buffer throws(StatusError) in
          try buffer.encodeFrame(
            listFunctions: ListFunctionsRequest(name: name), stream: call.stream)
        })
    }
    return try decode(response) { bytes, arena throws(StatusError) in
      try ListFunctionsResponse(decoding: bytes, in: arena).functions
    }
  }

  /// How the daemon is.
  public func status() async throws(StatusError) -> GetStatusResponse {
    let response = try await unary("/lossd.v1.Daemon/GetStatus", EvaluationOptions()) {
      (connection, call, _) throws(StatusError) in
      OutgoingFrames(bytes: connection.encode { $0.encodeFrame(getStatus: call.stream) })
    }
    return try decode(response) { bytes, arena throws(StatusError) in
      try GetStatusResponse(decoding: bytes, in: arena)
    }
  }

  /// The PluginHost service, which answers on the admin socket alone: all plugins for `.list`, the
  /// one concerned for `.load` and `.reload`.
  public func plugins(_ request: PluginRequest) async throws(StatusError) -> PluginsResponse {
    let method =
      switch request {
      case .list: "ListPlugins"
      case .load: "LoadPlugin"
      case .reload: "ReloadPlugin"
      case .unload: "UnloadPlugin"
      }
    let response = try await unary("/lossd.v1.PluginHost/\(method)", EvaluationOptions()) {
      (connection, call, _) throws(StatusError) in
      OutgoingFrames(
        bytes: connection.encode { $0.encodeFrame(plugins: request, stream: call.stream) })
    }
    return try decode(response) { bytes, arena throws(StatusError) in
      try decodePlugins(bytes, answering: request, in: arena)
    }
  }

  /// Begins the evaluation of a data set in batches. The timeout is that of all of it.
  public func stream(
    _ function: String, options: EvaluationOptions = EvaluationOptions()
  ) async throws(StatusError) -> EvaluationStream {
    let timer = StreamTimer(options.timeout)
    let description = try await functions(named: function, timeout: options.timeout).first
    return EvaluationStream(
      self, try await openLeg(options, timer), function: function, options: options, description,
      timer)
  }

  /// Opens a call of EvaluateStream, on a new connection where the last one is going away. The
  /// timer watches it from then on.
  func openLeg(
    _ options: EvaluationOptions, _ timer: StreamTimer
  ) async throws(StatusError) -> EvaluationStream.Leg {
    try await retrying { () async throws in
      var options = options
      options.timeout = timer.timeLeft
      let connection = try self.connection()
      let patience = self.closeWhenSilent(connection, options.timeout)
      defer { patience?.cancel() }
      let limits = try await connection.hello()
      let call = try await connection.open(
        "/lossd.v1.Evaluator/EvaluateStream", options, credit: EvaluationStream.responseWindow)
      timer.watch(self.closeWhenSilent(connection, options.timeout, call))
      return EvaluationStream.Leg(connection: connection, call: call, limits: limits)
    }
  }

  // MARK: - Calls

  private func connection() throws(StatusError) -> ClientConnection {
    var failure: StatusError?
    let connection = current.withLock { current -> ClientConnection? in
      if let current, current.isUsable { return current }
      do throws(StatusError) {
        let new = try ClientConnection(address, software: software)
        current = new
        return new
      } catch {
        failure = error
        return nil
      }
    }
    if let connection { return connection }
    throw failure ?? StatusError(.unavailable, "\(address): not connected")
  }

  private typealias Encode =
    @Sendable (ClientConnection, ClientCall, HelloMessage) throws(StatusError) -> OutgoingFrames

  private func unary(
    _ method: String, _ options: EvaluationOptions, _ encode: @escaping Encode
  ) async throws(StatusError) -> ClientCall.Response {
    try await retrying { () async throws in
      try await self.attempt(method, options, credit: 0, encode) { connection, call in
        guard let response = try await connection.receive(call) else {
          throw StatusError(.internal, "the call ended without a response")
        }
        return response
      }
    }
  }

  /// Tries again, on a new connection, what the daemon says it never began; a daemon that is just
  /// being restarted gets some time to come back.
  private func retrying<Result: Sendable>(
    _ body: @Sendable () async throws -> Result
  ) async throws(StatusError) -> Result {
    var tries = 0
    while true {
      do { return try await body() } catch let error as StatusError {
        // Only after a call that never began, or a daemon that said that it was going: one that is
        // not there at first is an error.
        let isRestarting = tries > 0 || current.withLock { $0?.isGoingAway ?? false }
        guard isRestarting, tries < Client.triesMax, error.isConnectFailure else { throw error }
      } catch {
        if tries >= Client.triesMax {
          throw StatusError(.unavailable, "\(address): the daemon keeps shutting down")
        }
      }
      tries += 1
      try? await Task.sleep(for: .milliseconds(Client.pauseMilliseconds))
    }
  }

  private func attempt<Result: Sendable>(
    _ method: String, _ options: EvaluationOptions, credit: UInt32, _ encode: @escaping Encode,
    receive: @Sendable (ClientConnection, ClientCall) async throws -> Result
  ) async throws -> Result {
    let connection = try connection()
    let patience = closeWhenSilent(connection, options.timeout)
    defer { patience?.cancel() }
    let limits = try await connection.hello()
    let call = try await connection.open(method, options, credit: credit)
    return try await withTaskCancellationHandler {
      let frames: OutgoingFrames
      do {
        frames = try encode(connection, call, limits)
      } catch {
        connection.cancel(call)
        throw error
      }
      if frames.tensors.isEmpty {
        connection.send(frames.bytes)
      } else {
        await connection.sendAndWait(frames)
      }
      do { return try await receive(connection, call) } catch {
        // Where the answer was no good; a call that has ended is none to cancel.
        connection.cancel(call)
        throw error
      }
    } onCancel: {
      connection.cancel(call)
    }
  }

  /// The daemon keeps the deadline. A server that says nothing for some time after it keeps none,
  /// and its connection is of no use. `timeout` in seconds from now; `call`: where this one has
  /// ended by then, the server has kept it.
  private func closeWhenSilent(
    _ connection: ClientConnection, _ timeout: Double?, _ call: ClientCall? = nil
  ) -> Task<Void, Never>? {
    guard let timeout, timeout < 1e9 else { return nil }
    let address = address
    let patience = max(timeout, 0) + Client.patienceSeconds
    return Task {
      do { try await Task.sleep(for: .seconds(patience)) } catch { return }
      if let call, connection.hasEnded(call) { return }
      connection.close(
        StatusError(
          .deadlineExceeded,
          "\(address): the server said nothing for \(Client.patienceSeconds) s after the timeout"))
    }
  }

  private func decode<Result>(
    _ response: ClientCall.Response,
    _ body: (UnsafeRawBufferPointer, MessageArena) throws(StatusError) -> Result
  ) throws(StatusError) -> Result {
    let arena = MessageArena()
    var result: Swift.Result<Result, StatusError>?
    response.message.withUnsafeBytes { bytes in
      do throws(StatusError) { result = .success(try body(bytes, arena)) } catch {
        result = .failure(error)
      }
    }
    guard let result else { throw StatusError(.internal, "no response") }
    return try result.get()
  }
}
