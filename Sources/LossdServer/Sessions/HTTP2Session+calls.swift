import Glibc
import LossdEngine
import LossdHTTP
import LossdTensor
import LossdWire

// From a request's fields to its call, or to the answer that there is none.
extension HTTP2Session {
  func beginCall(_ stream: Int32, isLast: Bool) {
    if calls.count >= Int(limits.streamsMax) {
      // Safe to be tried again: nothing of it has begun. Calls count until their work has stopped,
      // not only until their streams are closed.
      return reset(stream, .refusedStream)
    }
    let method: Method
    do throws(StatusError) {
      method = try self.method(headReference.with { $0.path })
      try takeStream()
    } catch { return refuse(stream, error) }
    begin(contextReference.with { spareCalls.take($0) }, stream, method)
    if isLast, let call = calls[stream] { call.inputEnded() }
  }

  private func begin(_ call: GRPCCall, _ stream: Int32, _ method: Method) {
    let reference = Unretained(call)
    // The session keeps it.
    calls[stream] = call
    reference.with { call in
      connectionReference?.with {
        $0.setContext(stream, Unmanaged.passUnretained(call).toOpaque())
      }
      if contextReference.with({ $0.accessLog != nil }) { call.record = record(stream) }
      let timeout = headReference.with { head in
        call.begin(self, stream, head)
        return head.timeout ?? 0
      }
      if !method.isEvaluating { channel.isTurnCostly = true }
      call.begin(
        UInt32(bitPattern: stream), method, timeout: timeout,
        responses: GRPCCall.responseCredit, requests: limits.streamCredit,
        makeHandler: ServiceTable.makeHandler)
    }
    watchLater()
  }

  /// The method of this path: most requests have their connection's last one.
  private func method(_ path: UnsafeRawBufferPointer) throws(StatusError) -> Method {
    try Unretained(lastPath).with { (last) throws(StatusError) in
      if last.equals(path) { return last.method }
      let method = try ServiceTable.method(
        path, channel.administration, channel.services, isGRPC: true)
      last.keep(path, method)
      return method
    }
  }

  /// Counts a call for its user, with the memory that every call takes.
  private func takeStream() throws(StatusError) {
    if share.streams >= Int(limits.userStreamsMax) {
      throw StatusError(
        .resourceExhausted,
        "user \(share.user.id) has \(share.streams) calls open, the most there can be "
          + "(limits.user_streams)")
    }
    if let shortage = small.take(Call.ownBytes) {
      throw StatusError(.resourceExhausted, "no memory now for a call: \(shortage.text)")
    }
    share.streams += 1
  }

  /// Answers a request that becomes no call.
  func refuse(_ stream: Int32, _ error: StatusError) {
    GRPCStatus.with(error, isAlone: true) {
      _ = connection?.answer(stream, $0, body: nil)
    }
    if contextReference.with({ $0.accessLog != nil }) {
      var record = record(stream)
      record.end(error.code, context.accessLog)
    }
  }

  /// Answers a request that is none of gRPC.
  func answerHTTP(_ stream: Int32, _ status: UInt16) {
    let field = HTTP2Field(":status", status == 405 ? "405" : "415")
    withUnsafePointer(to: field) {
      _ = connection?.answer(stream, UnsafeBufferPointer(start: $0, count: 1), body: nil)
    }
  }

  /// The access log's record of a request.
  private func record(_ stream: Int32) -> AccessRecord {
    var record = AccessRecord(
      peer: channel.peerText, connection: channel.number, stream: UInt32(bitPattern: stream),
      method: displayText(head.path), begin: Clock.now)
    record.trace = String(decoding: head.traceParent, as: UTF8.self)
    return record
  }
}

/// A connection's last path, and its method. Long paths are not kept.
final class LastPath {
  private static let bytesMax = 128

  private let memory = UnsafeMutableRawPointer.allocate(
    byteCount: LastPath.bytesMax, alignment: 16)
  private var count = -1
  private(set) var method = Method(number: 0, path: "", isStreaming: false, isEvaluating: false)

  deinit { memory.deallocate() }

  func equals(_ path: UnsafeRawBufferPointer) -> Bool {
    guard path.count == count, let other = path.baseAddress else { return false }
    return memcmp(memory, other, count) == 0
  }

  func keep(_ path: UnsafeRawBufferPointer, _ method: Method) {
    guard path.count <= LastPath.bytesMax, let source = path.baseAddress else { return }
    self.method = method
    memory.copyMemory(from: source, byteCount: path.count)
    count = path.count
  }
}

/// The fields that end an answer.
enum GRPCStatus {
  // What these refer to is in the program's constants, which nobody changes.
  nonisolated(unsafe) private static let beginFields: [HTTP2Field] = [
    HTTP2Field(":status", "200"), HTTP2Field("content-type", "application/grpc"),
  ]
  /// The fields of every answer, and those of a good end: for the program's whole life.
  nonisolated(unsafe) static let begin = constant(beginFields)
  nonisolated(unsafe) static let ok = constant([HTTP2Field("grpc-status", "0")])

  private static func constant(_ fields: [HTTP2Field]) -> UnsafeBufferPointer<HTTP2Field> {
    let memory = UnsafeMutableBufferPointer<HTTP2Field>.allocate(capacity: fields.count)
    _ = memory.initialize(fromContentsOf: fields)
    return UnsafeBufferPointer(memory)
  }

  nonisolated(unsafe) private static let codes: [HTTP2Field] = [
    HTTP2Field("grpc-status", "0"), HTTP2Field("grpc-status", "1"), HTTP2Field("grpc-status", "2"),
    HTTP2Field("grpc-status", "3"), HTTP2Field("grpc-status", "4"), HTTP2Field("grpc-status", "5"),
    HTTP2Field("grpc-status", "6"), HTTP2Field("grpc-status", "7"), HTTP2Field("grpc-status", "8"),
    HTTP2Field("grpc-status", "9"), HTTP2Field("grpc-status", "10"),
    HTTP2Field("grpc-status", "11"), HTTP2Field("grpc-status", "12"),
    HTTP2Field("grpc-status", "13"), HTTP2Field("grpc-status", "14"),
    HTTP2Field("grpc-status", "15"), HTTP2Field("grpc-status", "16"),
  ]

  /// - Parameter isAlone: nothing was answered before.
  static func with(
    _ status: StatusError, isAlone: Bool, _ body: (UnsafeBufferPointer<HTTP2Field>) -> Void
  ) {
    var fields = isAlone ? beginFields : []
    fields.append(codes[Int(status.code.rawValue)])
    // An unsupported encoding is told together with those that there are.
    if status.code == .unimplemented {
      fields.append(HTTP2Field("grpc-accept-encoding", "identity,gzip,deflate"))
    }
    GRPCText.encode(status.message).withUnsafeBytes { message in
      if !message.isEmpty { fields.append(HTTP2Field("grpc-message", message)) }
      Array((status.metadata[batchKey] ?? "").utf8).withUnsafeBytes { batch in
        if !batch.isEmpty { fields.append(HTTP2Field("lossd-batch-id", batch)) }
        fields.withUnsafeBufferPointer(body)
      }
    }
  }

  /// The only metadata that statuses have.
  private static let batchKey = "lossd-batch-id"
}
