import LossdEngine
import LossdTensor

/// One call, as the access log tells it.
struct AccessRecord: Sendable {
  /// Who called: `uid=1000 pid=4711`, `peer=tcp:192.0.2.7:50712`.
  let peer: String
  /// The connection's number, counted from the daemon's start on each loop, and the call's stream
  /// in it.
  let connection: UInt64
  let stream: UInt32
  /// As the client sent it, where there is no such method.
  let method: String
  /// Empty: it reached none.
  var function = ""
  /// Of the call's OPEN, then of its end; `Clock.now`'s nanoseconds.
  let begin: UInt64
  var end: UInt64 = 0
  /// Bytes of its OPEN and MESSAGE frames, and of the MESSAGE and STATUS frames that answer it.
  var received = 0
  var sent = 0
  var code = StatusCode.ok

  /// The call has ended now.
  mutating func end(_ code: StatusCode, _ log: AccessLog?) {
    end = Clock.now
    self.code = code
    log?.add(self)
  }

  /// One line, `key=value` with blanks between and nowhere else.
  var text: String {
    let method = String(method.map { $0.isWhitespace ? "?" : $0 })
    return "call \(peer) connection=\(connection) stream=\(stream) method=\(method) function="
      + "\(function.isEmpty ? "-" : function) code=\(code) us=\((end - begin) / 1000) "
      + "received=\(received) sent=\(sent)"
  }
}
