import Glibc
import LossdEngine
import LossdTensor
import LossdWire

/// GetStatus: how the daemon is.
final class GetStatusHandler: QueryHandler {
  override func decode(
    _ message: UnsafeRawBufferPointer, _ arena: MessageArena
  ) throws(StatusError) {
    _ = try GetStatusRequest(decoding: message, in: arena)
  }

  override func answer(_ call: Call) throws(StatusError) {
    try call.respond(.status(context.daemon.status(context.limits)))
  }
}

extension DaemonState {
  func status(_ limits: ServerLimits) -> GetStatusResponse {
    var counts = Metrics.Counts()
    let loops = metrics.withLock { $0 }
    for loop in loops { counts.add(loop.snapshot) }
    var status = GetStatusResponse()
    status.version = software
    status.uptimeMicroseconds = (Clock.now - startTime) / 1000
    status.processID = UInt64(getpid())
    status.connections = counts.open
    status.connectionsAccepted = counts.accepted
    status.callsInFlight = counts.callsInFlight
    status.bytesInFlight = UInt64(
      max(budget.bytesInFlight - leasedBytes.load(ordering: .relaxed), 0))
    status.bytesReceived = counts.received
    status.bytesSent = counts.sent
    status.rows = counts.rows
    status.calls = calls(counts)
    status.latencies = latencies(counts)
    status.queueDepth = UInt64(scheduler.queueDepth)
    status.limits = LimitsMessage(limits)
    let pooled = pool.statistics
    status.pool.cachedBytes = UInt64(pooled.cachedBytes)
    status.pool.hits = pooled.hits
    status.pool.misses = pooled.misses
    status.workers = UInt32(scheduler.workers)
    status.loops = UInt32(loops.count)
    status.kernels = kernels
    status.residentBytes = residentBytes()
    status.isDraining = isDraining.load(ordering: .relaxed)
    status.listeners = listeners.withLock { $0 }
    return status
  }

  private func calls(_ counts: Metrics.Counts) -> [CallCountMessage] {
    var calls: [CallCountMessage] = []
    for (name, function) in counts.functions.sorted(by: { $0.key < $1.key }) {
      for (code, count) in function.codes.enumerated() where count > 0 {
        var call = CallCountMessage()
        call.function = name
        call.code = UInt32(code)
        call.count = count
        calls.append(call)
      }
    }
    for (method, codes) in counts.methods.sorted(by: { $0.key < $1.key }) {
      for (code, count) in codes.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        var call = CallCountMessage()
        call.method = method
        call.code = code.rawValue
        call.count = count
        calls.append(call)
      }
    }
    return calls
  }

  private func latencies(_ counts: Metrics.Counts) -> [FunctionLatencyMessage] {
    counts.functions.sorted { $0.key < $1.key }.map { name, function in
      var latency = FunctionLatencyMessage()
      let histogram = function.latency
      latency.function = name
      latency.count = histogram.count
      latency.p50Microseconds = Double(histogram.percentile(0.5)) / 1000
      latency.p90Microseconds = Double(histogram.percentile(0.9)) / 1000
      latency.p99Microseconds = Double(histogram.percentile(0.99)) / 1000
      latency.p999Microseconds = Double(histogram.percentile(0.999)) / 1000
      latency.maxMicroseconds = Double(histogram.max) / 1000
      return latency
    }
  }

  /// From /proc, 0 where there is none.
  private func residentBytes() -> UInt64 {
    let descriptor = open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
    if descriptor < 0 { return 0 }
    defer { _ = close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 128)
    let count = read(descriptor, &bytes, bytes.count)
    let fields = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self).split(separator: " ")
    guard fields.count > 1, let pages = UInt64(fields[1]) else { return 0 }
    return pages * UInt64(sysconf(Int32(_SC_PAGESIZE)))
  }
}

extension LimitsMessage {
  init(_ limits: ServerLimits) {
    self.init()
    maxMessageBytes = limits.messageBytesMax
    maxPayloadBytes = limits.payloadBytesMax
    maxStreams = limits.streamsMax
    streamCredit = limits.streamCredit
    maxConnections = UInt32(limits.connectionsMax)
    connectionBytes = UInt64(limits.connectionBytesMax)
    totalBytes = UInt64(limits.totalBytesMax)
    helloTimeoutMicroseconds = limits.helloTimeout / 1000
    frameTimeoutMicroseconds = limits.frameTimeout / 1000
    idleTimeoutMicroseconds = limits.idleTimeout / 1000
    writeTimeoutMicroseconds = limits.writeTimeout / 1000
    starveTimeoutMicroseconds = limits.starveTimeout / 1000
    drainTimeoutMicroseconds = limits.drainTimeout / 1000
    queuedBytes = UInt64(limits.queuedBytesMax)
    userBytes = UInt64(limits.userBytes)
    userConnections = UInt32(limits.userConnectionsMax)
    userStreams = limits.userStreamsMax
    regionBytes = UInt64(limits.regionBytesMax)
    userRegionBytes = UInt64(limits.userRegionBytes)
    regions = limits.regionsMax
    userRegions = limits.userRegionsMax
    regionGraceMicroseconds = limits.regionGrace / 1000
    callCostMicroseconds = limits.callCostMax / 1000
    waitTimeoutMicroseconds = limits.waitTimeout / 1000
  }
}
