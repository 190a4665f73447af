import CLinux
import Glibc

/// Who connected to a Unix socket, as the kernel recorded it then (SO_PEERCRED, unix(7)).
public struct PeerCredentials: Sendable, Equatable {
  public let processID: Int32
  public let userID: UInt32
  public let groupID: UInt32

  /// Nil for what is no Unix socket.
  public init?(of fd: Int32) {
    guard socketFamily(fd) == AF_UNIX else { return nil }
    var (process, user, group): (Int32, UInt32, UInt32) = (0, 0, 0)
    guard clinux_peer_credentials(fd, &process, &user, &group) == 0 else { return nil }
    processID = process
    userID = user
    groupID = group
  }
}
