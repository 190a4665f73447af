import LossdKernels
import Testing

@testable import LossdCatalogue

@Suite struct StreamingTests {
  @Test("one large result goes past the cache, several only where the processor gains by it")
  func results() {
    let large = Streaming.bytesMin / 4
    #expect(Streaming.isWorthwhile(large, .float32))
    #expect(!Streaming.isWorthwhile(large - 1, .float32))
    #expect(!Streaming.isWorthwhile(large, .float16))
    for results in 2...4 {
      #expect(
        Streaming.isWorthwhile(large, .float32, results: results) == Kernels.streamsTogether)
      #expect(!Streaming.isWorthwhile(large - 1, .float32, results: results))
    }
  }
}
