import CLossdProto
import LossdTensor

/// How the daemon is: counters, gauges, limits.
public struct GetStatusResponse: Sendable, Equatable {
  /// The daemon's.
  public var version: String = ""
  public var uptimeMicroseconds: UInt64 = 0
  public var processID: UInt64 = 0
  /// Open now.
  public var connections: UInt64 = 0
  /// Since the start.
  public var connectionsAccepted: UInt64 = 0
  public var callsInFlight: UInt64 = 0
  /// Payloads, results and scratch reserved now.
  public var bytesInFlight: UInt64 = 0
  public var bytesReceived: UInt64 = 0
  public var bytesSent: UInt64 = 0
  /// Evaluated since the start.
  public var rows: UInt64 = 0
  /// By method or function, and code.
  public var calls: [CallCountMessage] = []
  public var latencies: [FunctionLatencyMessage] = []
  /// Calls waiting for a worker.
  public var queueDepth: UInt64 = 0
  public var limits: LimitsMessage = LimitsMessage()
  public var pool: PoolMessage = PoolMessage()
  /// Threads.
  public var workers: UInt32 = 0
  /// Threads.
  public var loops: UInt32 = 0
  /// Instruction set in use.
  public var kernels: String = ""
  public var residentBytes: UInt64 = 0
  public var isDraining: Bool = false
  public var listeners: [String] = []

  public init() {}

  /// A copy out of the message; INVALID_ARGUMENT when it does not decode.
  public init(
    decoding bytes: UnsafeRawBufferPointer, in arena: MessageArena
  ) throws(StatusError) {
    self.init(try arena.decode(lossd__v1__get_status_response__init, bytes).pointee)
  }
}

extension GetStatusResponse {
  init(_ raw: Lossd__V1__GetStatusResponse) {
    version = textString(raw.version)
    uptimeMicroseconds = raw.uptime_us
    processID = raw.pid
    connections = raw.connections
    connectionsAccepted = raw.connections_accepted
    callsInFlight = raw.calls_in_flight
    bytesInFlight = raw.bytes_in_flight
    bytesReceived = raw.bytes_received
    bytesSent = raw.bytes_sent
    rows = raw.rows
    calls = mapList(raw.calls, raw.n_calls, CallCountMessage.init)
    latencies = mapList(raw.latencies, raw.n_latencies, FunctionLatencyMessage.init)
    queueDepth = raw.queue_depth
    limits = raw.limits.map { LimitsMessage($0.pointee) } ?? LimitsMessage()
    pool = raw.pool.map { PoolMessage($0.pointee) } ?? PoolMessage()
    workers = raw.workers
    loops = raw.loops
    kernels = textString(raw.kernels)
    residentBytes = raw.resident_bytes
    isDraining = raw.draining != 0
    listeners = (0..<raw.n_listeners).map { textString(raw.listeners?[$0]) }
  }

  func build(_ arena: MessageArena) -> UnsafeMutablePointer<Lossd__V1__GetStatusResponse> {
    let raw = arena.make(lossd__v1__get_status_response__init)
    raw.pointee.version = arena.text(version)
    raw.pointee.uptime_us = uptimeMicroseconds
    raw.pointee.pid = processID
    raw.pointee.connections = connections
    raw.pointee.connections_accepted = connectionsAccepted
    raw.pointee.calls_in_flight = callsInFlight
    raw.pointee.bytes_in_flight = bytesInFlight
    raw.pointee.bytes_received = bytesReceived
    raw.pointee.bytes_sent = bytesSent
    raw.pointee.rows = rows
    raw.pointee.n_calls = calls.count
    raw.pointee.calls = arena.list(calls.count) { calls[$0].build(arena) }
    raw.pointee.n_latencies = latencies.count
    raw.pointee.latencies = arena.list(latencies.count) { latencies[$0].build(arena) }
    raw.pointee.queue_depth = queueDepth
    raw.pointee.limits = limits.build(arena)
    raw.pointee.pool = pool.build(arena)
    raw.pointee.workers = workers
    raw.pointee.loops = loops
    raw.pointee.kernels = arena.text(kernels)
    raw.pointee.resident_bytes = residentBytes
    raw.pointee.draining = isDraining ? 1 : 0
    raw.pointee.n_listeners = listeners.count
    raw.pointee.listeners = arena.list(listeners.count) { arena.text(listeners[$0]) }
    return raw
  }
}
