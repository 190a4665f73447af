import Glibc

/// A socket that the service manager opened for this process (sd_listen_fds(3)): its descriptor,
/// still to be adopted by somebody, and the name that the unit gave it with FileDescriptorName=.
public struct InheritedSocket: Sendable, Equatable {
  public let name: String
  public let fd: Int32

  /// The first descriptor that a manager passes.
  static let firstFD: Int32 = 3
  /// More sockets than anybody has units for: such a number is a mistake.
  static let countMax = 64

  /// Those of this process, close-on-exec from now on. The variables are cleared, so that no child
  /// process takes them for its own. Before other threads use the environment.
  public static func fromEnvironment() throws(InheritedSocketError) -> [InheritedSocket] {
    let found = try parse(
      listenPID: takeVariable("LISTEN_PID"), listenFDs: takeVariable("LISTEN_FDS"),
      names: takeVariable("LISTEN_FDNAMES"), pid: getpid())
    for socket in found {
      let flags = fcntl(socket.fd, F_GETFD)
      if flags < 0 || fcntl(socket.fd, F_SETFD, flags | FD_CLOEXEC) != 0 {
        throw InheritedSocketError(
          text: "LISTEN_FDS promises descriptor \(socket.fd), which is not open")
      }
    }
    return found
  }

  /// - Parameters: the texts of LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES; this process's number.
  static func parse(
    listenPID: String?, listenFDs: String?, names: String?, pid: pid_t
  ) throws(InheritedSocketError) -> [InheritedSocket] {
    // Without a number of this process they are another's.
    guard let listenPID, let listenFDs, pid_t(listenPID) == pid else { return [] }
    guard let count = Int(listenFDs), (0...countMax).contains(count) else {
      throw InheritedSocketError(text: "LISTEN_FDS=\(listenFDs) is not a number up to \(countMax)")
    }
    let given = names.map {
      $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }
    let texts = given ?? Array(repeating: "unknown", count: count)
    guard texts.count == count || (count == 0 && texts == [""]) else {
      throw InheritedSocketError(
        text: "LISTEN_FDNAMES has \(texts.count) names for \(count) sockets")
    }
    return (0..<count).map { InheritedSocket(name: texts[$0], fd: firstFD + Int32($0)) }
  }
}

/// What the manager said of its sockets cannot be.
public struct InheritedSocketError: Error, Sendable, Equatable, CustomStringConvertible {
  public let text: String
  public var description: String { text }
}
