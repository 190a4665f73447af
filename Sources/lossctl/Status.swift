import ArgumentParser
import LossdClient
import LossdTensor
import LossdWire

/// lossctl status
struct Status: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Say how the daemon is.")

  @OptionGroup var server: ServerOption
  @OptionGroup var limit: AnswerLimit

  @Flag(help: "Print JSON.")
  var json = false

  func run() async throws {
    try await reporting {
      let client = try server.client()
      let status = try await limit.whileWaiting(for: client.address) { try await client.status() }
      client.close()
      print(json ? status.json.text : status.text)
    }
  }
}

extension GetStatusResponse {
  var text: String {
    let seconds = Double(uptimeMicroseconds) / 1e6
    var lines = [
      "\(version.shown), process \(processID), up \(fixed(seconds, 0)) "
        + "s\(isDraining ? ", draining" : "")",
      "listening on \(listeners.map(\.shown).joined(separator: ", "))",
      "\(workers) workers, \(loops) loops, kernels \(kernels.shown), "
        + "\(mebibytes(residentBytes)) resident",
      "connections   \(connections) open, \(connectionsAccepted) since the start",
      "calls         \(callsInFlight) in flight, \(queueDepth) at the workers",
      "rows          \(rows)",
      "bytes         \(mebibytes(bytesReceived)) received, \(mebibytes(bytesSent)) sent, "
        + "\(mebibytes(bytesInFlight)) in flight",
      "pool          \(mebibytes(pool.cachedBytes)) kept, \(pool.hits) hits, \(pool.misses) misses",
      "limits        message \(mebibytes(UInt64(limits.maxMessageBytes))), payload "
        + "\(mebibytes(limits.maxPayloadBytes)), \(limits.maxStreams) calls a connection, "
        + "\(limits.maxConnections) connections,",
      "              in flight \(mebibytes(limits.connectionBytes)) a connection, "
        + "\(mebibytes(limits.totalBytes)) in all",
    ]
    if !calls.isEmpty {
      lines.append("calls ended")
      for call in calls {
        let name = call.function.isEmpty ? call.method : call.function
        let code = StatusCode(rawValue: call.code)?.description ?? "\(call.code)"
        lines.append("  " + padded(name.shown, 38) + padded(code, 20) + "\(call.count)")
      }
    }
    if !latencies.isEmpty {
      lines.append(
        "latency, us" + String(repeating: " ", count: 29)
          + ["p50", "p90", "p99", "p99.9", "max"].map { column($0) }.joined())
      for latency in latencies {
        let values = [
          latency.p50Microseconds, latency.p90Microseconds, latency.p99Microseconds,
          latency.p999Microseconds, latency.maxMicroseconds,
        ]
        lines.append(
          "  " + padded(latency.function.shown, 38) + values.map { column(fixed($0, 1)) }.joined())
      }
    }
    return lines.joined(separator: "\n")
  }

  private func column(_ text: String) -> String {
    String(repeating: " ", count: max(11 - text.count, 1)) + text
  }

  private func mebibytes(_ bytes: UInt64) -> String {
    bytes < 1 << 20
      ? "\(fixed(Double(bytes) / 1024, 1)) KiB"
      : "\(fixed(Double(bytes) / 1_048_576, 1)) MiB"
  }

  var json: JSON {
    .object([
      ("version", .string(version)), ("uptime_us", .unsigned(uptimeMicroseconds)),
      ("pid", .unsigned(processID)), ("connections", .unsigned(connections)),
      ("connections_accepted", .unsigned(connectionsAccepted)),
      ("calls_in_flight", .unsigned(callsInFlight)), ("bytes_in_flight", .unsigned(bytesInFlight)),
      ("bytes_received", .unsigned(bytesReceived)), ("bytes_sent", .unsigned(bytesSent)),
      ("rows", .unsigned(rows)), ("queue_depth", .unsigned(queueDepth)),
      ("workers", .unsigned(UInt64(workers))), ("loops", .unsigned(UInt64(loops))),
      ("kernels", .string(kernels)), ("resident_bytes", .unsigned(residentBytes)),
      ("draining", .bool(isDraining)), ("listeners", .list(listeners.map { .string($0) })),
      (
        "pool",
        .object([
          ("cached_bytes", .unsigned(pool.cachedBytes)), ("hits", .unsigned(pool.hits)),
          ("misses", .unsigned(pool.misses)),
        ])
      ),
      ("limits", limits.json),
      (
        "calls",
        .list(
          calls.map {
            .object([
              ("method", .string($0.method)), ("function", .string($0.function)),
              ("code", .unsigned(UInt64($0.code))), ("count", .unsigned($0.count)),
            ])
          })
      ),
      (
        "latencies",
        .list(
          latencies.map {
            .object([
              ("function", .string($0.function)), ("count", .unsigned($0.count)),
              ("p50_us", .number($0.p50Microseconds)), ("p90_us", .number($0.p90Microseconds)),
              ("p99_us", .number($0.p99Microseconds)), ("p999_us", .number($0.p999Microseconds)),
              ("max_us", .number($0.maxMicroseconds)),
            ])
          })
      ),
    ])
  }
}

extension LimitsMessage {
  fileprivate var json: JSON {
    .object([
      ("max_message_bytes", .unsigned(UInt64(maxMessageBytes))),
      ("max_payload_bytes", .unsigned(maxPayloadBytes)),
      ("max_streams", .unsigned(UInt64(maxStreams))),
      ("stream_credit", .unsigned(UInt64(streamCredit))),
      ("max_connections", .unsigned(UInt64(maxConnections))),
      ("connection_bytes", .unsigned(connectionBytes)), ("total_bytes", .unsigned(totalBytes)),
      ("hello_timeout_us", .unsigned(helloTimeoutMicroseconds)),
      ("frame_timeout_us", .unsigned(frameTimeoutMicroseconds)),
      ("idle_timeout_us", .unsigned(idleTimeoutMicroseconds)),
      ("write_timeout_us", .unsigned(writeTimeoutMicroseconds)),
      ("starve_timeout_us", .unsigned(starveTimeoutMicroseconds)),
      ("drain_timeout_us", .unsigned(drainTimeoutMicroseconds)),
      ("queued_bytes", .unsigned(queuedBytes)), ("user_bytes", .unsigned(userBytes)),
      ("user_connections", .unsigned(UInt64(userConnections))),
      ("user_streams", .unsigned(UInt64(userStreams))), ("region_bytes", .unsigned(regionBytes)),
      ("user_region_bytes", .unsigned(userRegionBytes)), ("regions", .unsigned(UInt64(regions))),
      ("user_regions", .unsigned(UInt64(userRegions))),
      ("region_grace_us", .unsigned(regionGraceMicroseconds)),
      ("call_cost_us", .unsigned(callCostMicroseconds)),
      ("wait_timeout_us", .unsigned(waitTimeoutMicroseconds)),
    ])
  }
}
