import CLinux
import LossdEngine

extension ThreadWatch {
  /// For workers that run callbacks of libraries in this process. A crash there leaves a line that
  /// names the plugin. The thread can neither end the process without such a line, nor fork or
  /// execute (CLinux's crash.c).
  public static let callbacks = ThreadWatch(
    begin: { clinux_watch_thread(CLINUX_WATCH_ALL) },
    // A callback may have blocked signals, without which the next one's crash would be nobody's.
    returned: { clinux_restore_thread() },
    end: { clinux_unwatch_thread() })
}
