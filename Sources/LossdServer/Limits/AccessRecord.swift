import LossdEngine
import LossdTensor

/// One call, as the access log shows it.
struct AccessRecord: Sendable {
  /// Who called: `uid=1000 pid=4711`, `peer=tcp:192.0.2.7:50712`.
  let peer: String
  /// The connection's number, counted from the daemon's start on each loop, and the call's stream
  /// in it.
  let connection: UInt64
  let stream: UInt32
  /// The path that the client sent, also where no such method exists.
  let method: String
  /// Empty where the call reached no function.
  var function = ""
  /// W3C's `traceparent`, as the client sent it; empty: it sent none.
  var trace = ""
  /// When the call's OPEN came; `end`: when the call ended. `Clock.now`'s nanoseconds.
  let begin: UInt64
  var end: UInt64 = 0
  /// Bytes of the call's OPEN and MESSAGE frames; `sent`: of the MESSAGE and STATUS frames that
  /// answer it.
  var received = 0
  var sent = 0
  var code = StatusCode.ok

  /// The call has ended now.
  mutating func end(_ code: StatusCode, _ log: AccessLog?) {
    end = Clock.now
    self.code = code
    log?.add(self)
  }

  /// One line of `key=value` fields. Blanks stand between the fields and nowhere else.
  var text: String {
    let method = String(method.map { $0.isWhitespace ? "?" : $0 })
    return "call \(peer) connection=\(connection) stream=\(stream) method=\(method) function="
      + "\(function.isEmpty ? "-" : function) code=\(code) us=\((end - begin) / 1000) "
      + "received=\(received) sent=\(sent)" + (trace.isEmpty ? "" : " trace=\(trace)")
  }
}
