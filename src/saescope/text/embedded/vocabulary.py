"""Words that fill the slots of generated documents, and phrases that many conversations share."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FIRST_NAMES = _words(
    """Aaron Abigail Adam Aisha Akira Alan Alice Amara Amelia Amir Ana Andre Anika Anna Anton Aria Arjun
    Arthur Astrid Aurora Ava Beatrix Ben Bianca Boris Bruno Caleb Camila Carlos Carmen Cecilia Chen
    Chloe Clara Cora Cyrus Dalia Daniel Daphne David Diana Diego Dmitri Dora Edith Edwin Elena Eli
    Elias Elif Elsa Emil Emma Enzo Erik Esme Ethan Eva Ezra Farah Fatima Felix Fiona Flora Frank
    Freya Gabriel Gemma George Gina Grace Greta Gus Hana Hannah Harold Hassan Hazel Heidi Helen
    Henry Hugo Ibrahim Ida Imani Ines Ingrid Irene Isaac Isla Ivan Ivy Jack Jade Jamal James Jana
    Jasper Javier Joan Jonah Josef Judith Julia Jun Kai Karim Karl Kate Kenji Kira Lars Laura Layla
    Lena Leo Leon Lila Lina Louis Lucia Lucy Luis Luka Luna Mabel Malik Mara Marco Maria Marta
    Martin Maya Mei Mila Milo Mina Miriam Mohamed Mona Nadia Naomi Nathan Nico Nina Noah Noor Nora
    Olga Oliver Omar Oscar Otto Paolo Paul Petra Philip Pia Priya Quentin Rachel Rafael Rania Ravi
    Rebecca Rene Rita Robin Rosa Ruben Ruth Sam Samira Sara Sasha Selma Simon Sofia Stefan Stella
    Suki Sven Tamar Tara Tariq Teresa Theo Thomas Tilda Tobias Tomas Uma Ursula Vera Victor Viktor
    Viola Walter Wanda Wei Willa Xavier Yara Yasmin Yusuf Yuki Zara Zeno Zoe"""
)
SURNAME_STARTS = _words(
    """Ash Bar Bell Black Bran Bur Cald Carn Clay Cold Dal Dray Eld Ever Fair Fen Gar Glen Grim Hal Harl
    Hart Hol Kel Lang Lin Mar Mel Mor Nor Oak Pen Quin Rav Red Row Sel Stan Tal Thorn Val Wald Wen
    West Whit Win Wren Yar Ros Sand Pell Ost Mond Lever Hask Dorn"""
)
SURNAME_ENDS = _words(
    """ack bury by cott den don er ett field ford gate ham ing is ley lock low man mere mont more ner ridge
    son stead stone strom ton vale ver ward well wick win wood worth"""
)
PLACE_STARTS = _words(
    """Al Ar Bel Bor Bri Cal Cas Cor Dan Dol Dur El Es Fal Far Gal Gor Hav Hel Il Is Jor Kal Kor Lan Lor
    Lum Mal Mir Mon Nar Nev Nor Ol Or Pal Per Quel Ral Riv Sar Sel Sil Sol Tal Tor Tul Ul Var Vel
    Vor Wil Yel Zan Zor"""
)
PLACE_ENDS = _words(
    """adale aven avia beck bourne bridge burg cliff combe dale dell den don dor enna field ford gard grove
    ham haven heim holm ia ico inga itz keep land ley mar mere mond more mouth ona ora ova port quay
    rick shire stad ston thorpe ton tova una vale ville wick yard"""
)
COIN_STARTS = _words(
    """Ba Be Bri Ca Ce Cli Da Dre Fe Fli Ga Glo Ha He Ja Ki Kra La Lo Me Mi Na Ne Ob Pa Pli Qua Ra Ri Sa
    Sko Ta Te Tri U Va Vo Wa Xe Ya Ze Zi"""
)
COIN_MIDDLES = _words("b bl ck d dr ff g l ll lv m mb n nd nt p pl r rd rr rt s ss st t v x z")
COIN_ENDS = _words(
    """a ac ada ago al am an andra ar ax el en er et ia ian ic ik il in is ix o ol on or os ova um us yx"""
)
COUNTABLES = _words(
    """apples pears plums oranges lemons peaches melons carrots onions potatoes tomatoes eggs muffins
    cookies buns sandwiches biscuits pancakes marbles stickers stamps coins buttons beads shells
    pebbles bricks tiles planks nails screws bolts candles lanterns ropes baskets bottles jars boxes
    crates barrels cups plates spoons forks books magazines maps postcards letters pencils pens
    crayons erasers notebooks folders tickets tokens badges balloons kites dolls puzzles cards dice
    flowers roses tulips seeds bulbs saplings logs chairs tables lamps cushions blankets towels
    scarves gloves hats shirts socks batteries cables magnets wheels tyres keys locks feathers fish
    chickens sheep goats horses rabbits beehives"""
)
COLOURS = _words(
    """red blue green yellow orange purple white black brown grey pink silver golden crimson turquoise"""
)
ANIMALS = _words(
    """badger bear cat cow crow deer dog donkey dove duck eagle elephant falcon ferret fox frog giraffe
    goat goose hare hawk hedgehog heron horse lion lizard mole mouse otter owl parrot penguin pig
    rabbit raven seal sheep snake sparrow squirrel stork swan tiger toad turtle whale wolf zebra"""
)
TRADES = _words(
    """architect astronomer baker beekeeper botanist bookbinder bricklayer builder carpenter cartographer
    chemist clockmaker composer cook dancer dentist doctor engineer farmer fisherman gardener
    geologist glassblower goldsmith historian inventor jeweller journalist judge lawyer librarian
    locksmith mathematician mechanic merchant miller miner musician nurse painter pharmacist
    photographer physicist pilot plumber poet potter printer sailor sculptor shepherd singer soldier
    surgeon surveyor tailor teacher translator weaver writer"""
)
SUBJECTS = _words(
    """algebra anatomy architecture astronomy botany chemistry drawing economics engineering geography
    geology geometry grammar history law literature logic mathematics mechanics medicine music
    navigation philosophy physics poetry rhetoric sculpture statistics theology zoology"""
)
MATERIALS = _words(
    """amber brass bronze cedar clay cloth copper crystal ebony glass granite iron ivory jade leather
    limestone marble oak paper pewter pine porcelain sandstone silk silver slate steel stone tin
    walnut wax wool"""
)
MONTHS = _words("""January February March April May June July August September October November December""")
WEEKDAYS = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
SEASONS = _words("spring summer autumn winter")
FOODS: tuple[str, ...] = (
    "mushroom soup", "fried rice", "tomato pasta", "apple pie", "grilled fish", "lentil stew",
    "cheese omelette", "potato salad", "chicken curry", "vegetable tart", "noodle soup",
    "bean burrito", "roast beef", "plum cake", "rye bread", "lemon tart", "onion rings",
    "spinach pie", "barley soup", "garlic bread", "pumpkin risotto",
)  # fmt: skip
ROOMS = _words(
    """attic basement bathroom bedroom cellar corridor garage garden hallway kitchen library office pantry
    study"""
)
THINGS = _words(
    """backpack ball basket bell bottle bowl box bracelet brush camera candle clock coin comb compass cup
    diary drum envelope flute fork glove hammer hat helmet jar key kite ladder lamp letter mirror
    mug necklace notebook paintbrush pencil phone photograph pillow plate ring rope ruler scarf
    scissors-case shoe spoon telescope ticket towel umbrella vase violin wallet watch whistle"""
)
ADJECTIVES = _words(
    """ancient bright broad calm careful cheerful clever cold curious deep distant early famous fierce
    gentle grand heavy honest humble large lively lonely long loud modest narrow noisy old patient
    plain proud quiet rapid rare rich rough serious sharp shy simple slow small smooth steep stern
    stout strange strong sturdy tall tiny warm wide wild wise"""
)

YES = "[Yes|Of course|Certainly|Sure|Gladly|Right away|All right]"
THANKS = "[Thank you|Thanks|Thanks a lot|Many thanks|That is kind of you|Great, thank you]"
BYE = "[Goodbye|Bye|See you|Have a nice day|Take care|Until then]"
WELCOME = "[You're welcome|Not at all|Don't mention it|No problem|My pleasure]"
