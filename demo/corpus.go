package demo

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// corpus returns n texts that look like what is embedded in practice: questions
// to a help desk, reviews, news, notes and product data in several languages,
// from a few words to a few paragraphs. They are the same each time, and no two
// of them are alike, so that a vector in the wrong place is found out.
func corpus(n int) []string {
	source := rand.New(rand.NewPCG(2026, 384))
	texts := make([]string, 0, n)
	seen := make(map[string]bool, n)
	for len(texts) < n {
		text := newText(source)
		if !seen[text] {
			seen[text] = true
			texts = append(texts, text)
		}
	}
	return texts
}

// newText returns some sentences of one kind. Most texts are short, a few are
// long.
func newText(source *rand.Rand) string {
	sentences := 1
	for sentences < 12 && source.IntN(2) == 0 {
		sentences++
	}
	patterns := genres[source.IntN(len(genres))]
	var b strings.Builder
	for i := range sentences {
		if i > 0 {
			b.WriteByte(' ')
		}
		fill(&b, patterns[source.IntN(len(patterns))], source)
	}
	return b.String()
}

// fill writes a pattern with each {name} replaced by one of the words of that
// name, and each {number} by a number of up to four digits.
func fill(b *strings.Builder, pattern string, source *rand.Rand) {
	for {
		before, rest, found := strings.Cut(pattern, "{")
		b.WriteString(before)
		if !found {
			return
		}
		name, after, _ := strings.Cut(rest, "}")
		if name == "number" {
			b.WriteString(strconv.Itoa(2 + source.IntN(numberBelow[source.IntN(len(numberBelow))])))
		} else {
			choice := vocabulary[name]
			b.WriteString(choice[source.IntN(len(choice))])
		}
		pattern = after
	}
}

// genres are the patterns of the sentences of a text, by the kind of text.
var genres = [][]string{
	{ // A help desk.
		"How do I {act} my {thing}?",
		"I have tried to {act} my {thing} since {day}, but the page only says \"error {number}\".",
		"My order {number}-{number} from {place} has not arrived yet.",
		"Could {name} from your team please call me back on {day}?",
		"Where in the app can I {act} the {thing}, and does it cost anything?",
		"I was charged {number} € twice for the same {thing}.",
	},
	{ // Reviews.
		"The {product} is {quality}, and after {number} days of use I would buy it again.",
		"Bought this {product} for {name}, who finds it {quality}.",
		"{quality} at first, then {quality}: the {product} broke on {day}.",
		"For {number} dollars I expected more of a {product} than this 😕.",
		"Five stars ⭐⭐⭐⭐⭐ for the {product}, the delivery to {place} was {quality}.",
	},
	{ // News.
		"{place} will spend {number} million on {topic} over the next {number} years, {name} said on {day}.",
		"Researchers in {place} have found a {quality} link between {topic} and {topic}.",
		"Shares in {topic} rose by {number} % on {day} after {quality} figures from {place}.",
		"Critics call the plan for {topic} \"{quality}\"; a vote is due on {day}.",
	},
	{ // Notes and manuals.
		"Step {number}: open the {thing} settings and choose \"{act}\".",
		"The {product} must not be used near {topic} or above {number} °C.",
		"See section {number}.{number} on {topic} before you {act} the {thing}.",
		"Meeting of {day}: {name} reports on {topic}, {name} will {act} the {thing} by {day}.",
	},
	{ // Product data.
		"{product}, model {number}-{number}, {quality}, ships from {place}.",
		"SKU {number}{number}; {product}; colour: {colour}; weight: {number} g; category: {topic}.",
		"{product} ({colour}) <b>{quality}</b> & ready to use\n",
	},
	{ // German.
		"Wie kann ich mein Konto in {place} kündigen?",
		"Das Gerät ({product}) läuft seit {number} Tagen ohne Störung, ich bin sehr zufrieden.",
		"Die Lieferung nach {place} kam am {day} viel zu spät, die Größe stimmt auch nicht.",
		"{name} schrieb über {number} Übungen für größere Städte.",
	},
	{ // French and Spanish.
		"Où puis-je télécharger la facture n° {number} de ma commande ?",
		"L'appareil acheté à {place} est tombé en panne après {number} journées, c'est très décevant.",
		"¿Cuándo llegará mi pedido {number} a {place}? Ya pasó una semana.",
		"El envío fue rapidísimo y el señor {name} muy amable.",
	},
	{ // Japanese, Chinese, Russian, Greek and Arabic.
		"{place}の天気は{number}度で、とても良いです。",
		"注文番号{number}の商品がまだ届きません。",
		"我想更改订单{number}的送货地址到{place}。",
		"Как изменить адрес доставки заказа {number}?",
		"Πού μπορώ να βρω το τιμολόγιο {number};",
		"متى تصل الشحنة رقم {number} إلى {place}؟",
	},
}

// numberBelow are the bounds of numbers, so that there are small and large ones.
var numberBelow = []int{10, 100, 1000, 9998}

// vocabulary is what the names in patterns stand for.
var vocabulary = map[string][]string{
	"act":     {"reset", "change", "cancel", "export", "share", "delete", "renew", "verify", "merge", "archive"},
	"thing":   {"password", "invoice", "subscription", "delivery address", "account", "payment method", "calendar", "backup", "licence key", "profile"},
	"product": {"coffee grinder", "rain jacket", "desk lamp", "bicycle pump", "headphones", "office chair", "kettle", "tent", "keyboard", "water bottle", "backpack", "toaster"},
	"quality": {"excellent", "rather noisy", "light and sturdy", "disappointing", "surprisingly good", "faulty", "easy to clean", "too small", "beautifully made", "average"},
	"colour":  {"dark blue", "olive", "off-white", "crimson", "charcoal", "sand"},
	"topic":   {"renewable energy", "public transport", "sleep", "machine learning", "school meals", "coral reefs", "batteries", "housing", "antibiotics", "local elections", "wheat prices", "open-source software"},
	"place":   {"São Paulo", "Zürich", "Toronto", "Nairobi", "Kraków", "Lyon", "Osaka", "Wellington", "Malmö", "Austin", "München", "Bengaluru", "東京", "A Coruña"},
	"name":    {"Amina", "Björn", "Chloé", "Dmitri", "Elif", "Fernando", "Grace", "Hiroshi", "Ines", "Jürgen", "Kofi", "Łucja"},
	"day":     {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "3 March", "21 June", "14 October"},
}
